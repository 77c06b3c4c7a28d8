import { readFileSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import t from 'tap'
import { Recording } from '../../../src/qmp/index.js'
import { createLog, silentLog } from '../../../src/util/log.js'

void t.test('a line for each message, after what the file has, whatever white space the message has', async (t) => {
  const file = path.join(t.testdir({}), 'r.jsonl')
  writeFileSync(file, 'earlier\n', { mode: 0o600 })
  const recording = await Recording.open(file, silentLog)
  recording.add('command', 1, '{\r\n  "execute": "x",\n  "id": 18446744073709551615\n}')
  recording.add('reply', 1, '{"return": "a\\nb"}\r\n')
  recording.add('event', undefined, '{"event": "E"}')
  await recording.close()
  const [earlier, ...lines] = readFileSync(file, 'utf8').trimEnd().split('\n')
  t.equal(earlier, 'earlier')
  t.match(
    lines.map((line) => JSON.parse(line) as unknown),
    [
      { time: /^\d{4}-\d\d-\d\dT/, direction: 'command', client: 1, message: { execute: 'x' } },
      { direction: 'reply', client: 1, message: { return: 'a\nb' } },
      { direction: 'event', message: { event: 'E' } },
    ],
  )
  t.match(lines[0], '18446744073709551615')
  t.equal(statSync(file).mode & 0o777, 0o600)
})

void t.test('a disk that is full ends the recording, with a line in the log, and nothing else', async (t) => {
  const said: string[] = []
  const logged = new Promise<void>((resolve) => {
    const log = createLog('error', (line) => {
      said.push(line)
      resolve()
    })
    void Recording.open('/dev/full', log).then((recording) => {
      recording.add('event', undefined, '{}')
      t.teardown(() => recording.close())
    })
  })
  await logged
  t.match(said, [/nothing is recorded any more: ENOSPC/])
})

void t.test('a file that cannot be opened is an error', async (t) => {
  await t.rejects(Recording.open(path.join(t.testdir({}), 'no', 'r'), silentLog), { code: 'ENOENT' })
})
