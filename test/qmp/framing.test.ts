import t from 'tap'
import { JsonSplitter, type Frame } from '../../src/qmp/framing.js'

const limits = { messageBytesMax: 1000, depthMax: 10 }
const texts = (frames: Iterable<Frame>): string[] =>
  [...frames].map((frame) => (frame.kind === 'text' ? frame.text : `broken: ${frame.reason}`))
const split = (input: string | Buffer): string[] => texts(new JsonSplitter(limits).push(Buffer.from(input)))

void t.test('commands need no newline between them', (t) => {
  t.same(split('{"a":1}{"b":[{}]}\r\n{"c":3}\n'), ['{"a":1}', '{"b":[{}]}', '{"c":3}'])
  t.end()
})

void t.test('braces, brackets and escaped quotes in strings do not count', (t) => {
  t.same(split('{"a":"}]{[\\"}\\\\"}{"b":"\\\\\\""}'), ['{"a":"}]{[\\"}\\\\"}', '{"b":"\\\\\\""}'])
  t.end()
})

void t.test('a stream cut at every byte gives the same texts', (t) => {
  const input = Buffer.from('{"a":"é}\\""}[1,{"x":[]}] word "s\\"t" {\r\n"b" : 2\n}{"€":"😀"}\r\n')
  const whole = split(input)
  t.equal(whole.length, 6)
  for (let cut = 0; cut <= input.length; cut++) {
    const splitter = new JsonSplitter(limits)
    const frames = [...splitter.push(input.subarray(0, cut)), ...splitter.push(input.subarray(cut))]
    t.same(texts(frames), whole, `cut at ${cut}`)
  }
  const bytes = new JsonSplitter(limits)
  t.same(texts([...input].flatMap((byte) => [...bytes.push(Buffer.from([byte]))])), whole, 'one byte at a time')
  t.end()
})

void t.test('what is not JSON comes out as words, to be refused one by one', (t) => {
  t.same(split('GET / HTTP/1.1\r\n{"a":1}'), ['GET', '/', 'HTTP/1.1', '{"a":1}'])
  t.same(split(']}{"a":1} '), [']}', '{"a":1}'])
  t.end()
})

void t.test('a text one byte too long is broken, and the next line is understood', (t) => {
  const fits = `"${'x'.repeat(limits.messageBytesMax - 2)}"`
  t.same(split(`${fits}\n{}`), [fits, '{}'])
  const longer = `{"${'x'.repeat(limits.messageBytesMax)}": {"a": 1}}`
  t.same(split(`${longer}{"same": "line"}\n{}`), [`broken: message is longer than 1000 bytes`, '{}'])
  t.same(split(`[${' '.repeat(limits.messageBytesMax - 1)}\n{}`), [`broken: message is longer than 1000 bytes`, '{}'])
  t.end()
})

void t.test('nesting deeper than the limit is broken', (t) => {
  const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth)
  t.same(split(`${nested(10)}\n`), [nested(10)])
  t.same(split(`${nested(11)}\n{}`), ['broken: nesting is deeper than 10', '{}'])
  t.end()
})

void t.test('a missing quote costs one line, not the connection', (t) => {
  t.same(split('{"execute": "quit}\n{"a":1}\n'), ['broken: control character in a string', '{"a":1}'])
  t.end()
})

void t.test('a stray byte inside an object costs one line', (t) => {
  t.same(split(Buffer.from('{"a": \xff}\n{"a":1}\n', 'latin1')), ['broken: stray byte 0xff', '{"a":1}'])
  t.same(split('{"a": \x01}\n{"a":1}\n'), ['broken: stray byte 0x01', '{"a":1}'])
  t.end()
})

void t.test('the end of the stream completes a word and breaks an object', (t) => {
  const splitter = new JsonSplitter(limits)
  t.same(texts(splitter.push(Buffer.from('word'))), [])
  t.same(splitter.end(), { kind: 'text', text: 'word' })
  t.equal(splitter.end(), undefined)
  t.same(texts(splitter.push(Buffer.from('{"a"'))), [])
  t.equal(splitter.pendingBytes, 4)
  t.same(splitter.end(), { kind: 'broken', reason: 'unexpected end of input' })
  t.end()
})
