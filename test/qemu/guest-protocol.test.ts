import t from 'tap'
import { encodeKill, encodeRun, encodeSync, LineSplitter, parseAgentLine } from '../../qemu/guest-protocol.js'

void t.test('requests are single lines that end in a dot', (t) => {
  t.equal(encodeSync('t1'), '\nsync t1 .\n', 'a sync first ends what an earlier client left')
  t.equal(encodeRun('a-1', 'echo hi', ''), 'run a-1 ZWNobyBoaQ== - .\n')
  t.equal(encodeRun('a-2', '', Buffer.from([0, 255, 10])), 'run a-2 - AP8K .\n')
  t.equal(encodeKill('a-1'), 'kill a-1 .\n')
  t.end()
})

void t.test('messages of the agent are understood', (t) => {
  t.same(parseAgentLine('hello b-0 .'), { type: 'hello', bootId: 'b-0' })
  t.same(parseAgentLine('synced t1 b-0 .'), { type: 'synced', token: 't1', bootId: 'b-0' })
  t.same(parseAgentLine('done a-1 137 aGkK - .'), {
    type: 'done',
    id: 'a-1',
    result: { status: 137, stdout: 'hi\n', stderr: '' },
  })
  t.end()
})

void t.test('a message that was cut off anywhere is no message', (t) => {
  for (const whole of ['hello b-0 .', 'synced t1 b-0 .', 'done a-1 0 aGkK aGkK .'])
    for (let length = 0; length < whole.length; length++) t.equal(parseAgentLine(whole.slice(0, length)), undefined)
  t.end()
})

void t.test('a message with too few, too many or senseless words is no message', (t) => {
  for (const line of [
    'hello .',
    'hello a b .',
    'synced a .',
    'done a 0 - .',
    'done a 0 - - - .',
    'done a x - - .',
    'what a .',
  ])
    t.equal(parseAgentLine(line), undefined, line)
  t.end()
})

void t.test('lines are the same however the stream is cut', (t) => {
  const stream = Buffer.from('\nfirst line\n\nzweite Zeile ä\nunfinished')
  const expected = ['', 'first line', '', 'zweite Zeile ä']
  t.same(new LineSplitter().push(stream), expected)
  for (let cut = 0; cut <= stream.length; cut++) {
    const lines = new LineSplitter()
    t.same([...lines.push(stream.subarray(0, cut)), ...lines.push(stream.subarray(cut))], expected, `cut at ${cut}`)
  }
  const lines = new LineSplitter()
  t.same(
    [...stream].flatMap((byte) => lines.push(Buffer.of(byte))),
    expected,
    'byte by byte',
  )
  t.end()
})
