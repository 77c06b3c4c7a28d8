/** The line that is being typed: keys, the history, and where it stands on a terminal. */
import { emitKeypressEvents } from 'node:readline'
import { PassThrough } from 'node:stream'
import t from 'tap'
import { History } from '../../../qemu/console/history.js'
import { layoutOf } from '../../../qemu/console/layout.js'
import { LineEditor, type Key, type KeyResult } from '../../../qemu/console/line-editor.js'

/** Bytes as a terminal sends them. @returns what the last key asked for */
function type(editor: LineEditor, text: string): KeyResult {
  const input = new PassThrough()
  emitKeypressEvents(input)
  const results: KeyResult[] = []
  input.on('keypress', (_: string | undefined, key: Key) => results.push(editor.press(key)))
  input.emit('data', Buffer.from(text))
  return results.at(-1) ?? 'nothing'
}

/** `|` is the cursor. */
const seen = ({ text, cursor }: LineEditor): string => `${text.slice(0, cursor)}|${text.slice(cursor)}`

const LEFT = '\u001b[D'
const HOME = '\u001b[H'

void t.test('keys edit as those of readline do', (t) => {
  const cases: [keys: string, seen: string][] = [
    [`ab${LEFT}x`, 'ax|b'],
    [`ab${HOME}x`, 'x|ab'],
    ['ab\u0001x\u0005y', 'xaby|'],
    ['one two\u0017', 'one |'],
    ['query-block id=a.b\u001b\u007f', 'query-block id=a.|'],
    ['one two\u0015', '|'],
    [`one${HOME}\u000btwo\u0019`, 'twoone|'],
    ['ab\u0014', 'ba|'],
    ['ab\u007f', 'a|'],
    [`ab${HOME}\u001b[3~`, '|b'],
    ['one two\u001bb', 'one |two'],
    [`one two${HOME}\u001bf`, 'one| two'],
    ['e\u0301x\u007f\u007f', '|'],
    [`a👩‍👩‍👧b${LEFT}${LEFT}`, 'a|👩‍👩‍👧b'],
    ['a\u0000\u001b[24~b', 'ab|'],
  ]
  for (const [keys, expected] of cases) {
    const editor = new LineEditor(new History())
    type(editor, keys)
    t.equal(seen(editor), expected, JSON.stringify(keys))
  }
  t.end()
})

void t.test('keys that ask for more than an edit', (t) => {
  const editor = new LineEditor(new History())
  t.equal(type(editor, '\u0004'), 'end')
  t.equal(type(editor, 'a\u0004'), 'changed', 'only on an empty line')
  t.equal(type(editor, '\t'), 'complete')
  t.equal(type(editor, '\r'), 'submit')
  t.equal(type(editor, '\u0003'), 'interrupt')
  t.equal(type(editor, '\u000c'), 'clear-screen')
  t.equal(type(editor, '\u001a'), 'suspend')
  t.end()
})

void t.test('up and down go through the history, and back to what was being typed', (t) => {
  const editor = new LineEditor(new History(['one', 'two']))
  type(editor, 'dra\u001b[A')
  t.equal(seen(editor), 'two|')
  type(editor, '\u001b[A\u001b[A')
  t.equal(seen(editor), 'one|')
  type(editor, '\u001b[B\u001b[B')
  t.equal(seen(editor), 'dra|')
  t.end()
})

void t.test('Ctrl-R searches backwards as one types', (t) => {
  const history = new History(['blockdev-add driver=raw', 'query-block', 'blockdev-del node-name=a', 'stop'])
  const editor = new LineEditor(history)
  type(editor, 'x\u0012blo')
  t.equal(editor.text, 'blockdev-del node-name=a')
  t.equal(editor.searchPrompt, '(search back) blo: ')
  type(editor, '\u0012')
  t.equal(editor.text, 'query-block', 'the next older one')
  type(editor, '\u0012')
  t.equal(editor.text, 'blockdev-add driver=raw')
  type(editor, '\u0012')
  t.match(editor.searchPrompt, '(failed search back)')
  t.equal(editor.text, 'blockdev-add driver=raw', 'what was found last stays')
  type(editor, '\u0013')
  t.equal(editor.text, 'query-block', 'Ctrl-S: newer')
  type(editor, '\u0007')
  t.equal(seen(editor), 'x|', 'Ctrl-G: as it was')
  t.equal(editor.searchPrompt, undefined)
  t.equal(type(editor, '\u0012stop\r'), 'submit', 'Enter runs what was found')
  t.equal(editor.text, 'stop')
  editor.reset()
  type(editor, `\u0012del${LEFT}`)
  t.equal(editor.searchPrompt, undefined, 'other keys go on with it')
  t.equal(editor.text, 'blockdev-del node-name=a')
  t.end()
})

void t.test('a line is laid out over the rows of a terminal', (t) => {
  t.same(layoutOf('> ', 'abc', 3, 80), { rows: ['> abc'], cursorRow: 0, cursorColumn: 5 })
  t.same(layoutOf('> ', 'abcdefgh', 8, 5), { rows: ['> abc', 'defgh', ''], cursorRow: 2, cursorColumn: 0 })
  t.same(layoutOf('> ', 'abcdefgh', 3, 5), { rows: ['> abc', 'defgh', ''], cursorRow: 1, cursorColumn: 0 })
  t.same(layoutOf('> ', 'a\nb', 3, 80), { rows: ['> a', 'b'], cursorRow: 1, cursorColumn: 1 })
  t.same(
    layoutOf('', '日本語', 3, 5),
    { rows: ['日本', '語'], cursorRow: 1, cursorColumn: 2 },
    'no character is cut in half',
  )
  t.same(layoutOf('', 'e\u0301x', 3, 80), { rows: ['e\u0301x'], cursorRow: 0, cursorColumn: 2 })
  t.end()
})
