/** The history: what is kept, what !N means, and the file. */
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { HistoryFile, historyPath } from '../../../qemu/console/history-file.js'
import { History, HISTORY_LINES_MAX } from '../../../qemu/console/history.js'
import { newFolder } from '../../support/cli.js'

const complain = (sentence: string): void => {
  throw new Error(sentence)
}

void t.test('each line is kept once, at its last place; none that begins with a space', (t) => {
  const history = new History(['a', 'b', 'a', '', 'c'])
  t.same(history.lines, ['b', 'a', 'c'])
  t.equal(history.add('b'), true)
  t.equal(history.add(' set_password password=x'), false)
  t.equal(history.add(' '), false)
  t.same(history.lines, ['a', 'c', 'b'])
  for (let n = 0; n < HISTORY_LINES_MAX + 5; n++) history.add(`line ${n}`)
  t.equal(history.lines.length, HISTORY_LINES_MAX)
  t.equal(history.lines[0], 'line 5')
  t.end()
})

void t.test('!N, !!, !-N and !word', (t) => {
  const history = new History(['query-status', 'stop', 'query-block'])
  t.equal(history.expand('!1'), 'query-status')
  t.equal(history.expand('!! x=1'), 'query-block x=1')
  t.equal(history.expand('!-2'), 'stop')
  t.equal(history.expand('!query-s'), 'query-status')
  t.equal(history.expand('x a=!1'), 'x a=!1', 'only at the beginning')
  for (const line of ['!9', '!0', '!nothing', '!-9'])
    t.throws(() => history.expand(line), { message: /no such line/ }, line)
  t.throws(() => new History().expand('!!'), { name: 'UsageError' })
  t.end()
})

void t.test('the file is for its owner, survives two consoles at once, and keeps lines of several rows', (t) => {
  const path = join(newFolder(t), 'state/nbd-remap/console-history')
  const [one, other] = [HistoryFile.open(path, complain), HistoryFile.open(path, complain)]
  one.add('from one')
  other.add('{"execute":\n "a\\\\nb"}')
  one.add(' secret')
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.same(HistoryFile.open(path, complain).history.lines, ['from one', '{"execute":\n "a\\\\nb"}'])
  t.end()
})

void t.test('a file that has grown long is written anew', (t) => {
  const path = join(newFolder(t), 'history')
  writeFileSync(path, 'x\ny\n'.repeat(HISTORY_LINES_MAX + 1))
  HistoryFile.open(path, complain)
  t.equal(readFileSync(path, 'utf8'), 'x\ny\n')
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.end()
})

void t.test('what cannot be written is told once, and the console goes on', (t) => {
  const path = join(newFolder(t), 'history')
  mkdirSync(path)
  const told: string[] = []
  const file = HistoryFile.open(path, (sentence) => told.push(sentence))
  file.add('a')
  file.add('b')
  t.match(told, [
    /^the history cannot be read: \S*history: it is a folder/,
    /^the history is not kept: \S*history: it is a folder/,
  ])
  t.same(file.history.lines, ['a', 'b'])
  t.end()
})

void t.test('it stands where XDG says', (t) => {
  t.equal(historyPath({ XDG_STATE_HOME: '/state' }), '/state/nbd-remap/console-history')
  t.match(historyPath({ XDG_STATE_HOME: 'relative' }), /\/\.local\/state\/nbd-remap\/console-history$/)
  t.equal(dirname(historyPath({})), dirname(historyPath({ XDG_STATE_HOME: '' })))
  t.end()
})
