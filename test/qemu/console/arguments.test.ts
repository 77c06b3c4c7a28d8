/** How lines become arguments: the grammar, dotted keys, and values typed by the schema. */
import t from 'tap'
import { readArguments } from '../../../qemu/console/arguments.js'
import { commandIn, readCommandLine, unclosedIn } from '../../../qemu/console/command-line.js'
import { Variables } from '../../../qemu/console/variables.js'
import { splitWords } from '../../../qemu/console/words.js'
import { SCHEMA } from './schema.js'

const variables = new Variables()
variables.set('n', 'disk0')
variables.set('five', 5)
variables.set('deep', { list: [{ 'node-name': 'a' }], args: { node: 'x' } })

const read = (command: string, text: string): unknown =>
  readArguments(splitWords(text).words, variables, SCHEMA.commands.get(command)?.arguments)
const untyped = (text: string): unknown => read('not-in-the-schema', text)

void t.test('values become what the schema says they are', (t) => {
  const bitmap = (text: string): unknown => read('block-bitmap-add', text)
  t.same(bitmap('node=5 name=true'), { node: '5', name: 'true' }, 'strings, whatever they look like')
  t.same(bitmap('granularity=64K'), { granularity: 65536 })
  t.same(bitmap('granularity=0x10'), { granularity: 16 })
  t.same(bitmap('granularity=-1'), { granularity: -1 })
  t.same(bitmap('tags=a,b'), { tags: ['a', 'b'] })
  t.same(bitmap('tags="a,b"'), { tags: ['a,b'] })
  t.same(bitmap('tags.1=b tags.0=a'), { tags: ['a', 'b'] })
  t.same(bitmap('tags=["a", "b"]'), { tags: ['a', 'b'] })
  t.same(bitmap('share=0.5'), { share: 0.5 })
  t.same(bitmap('value=5'), { value: 5 }, 'anything: what it looks like')
  t.same(bitmap('value="5"'), { value: '5' })
  t.throws(() => bitmap('granularity=big'), {
    name: 'UsageError',
    message: "'granularity' is an integer, and 'big' is none (64M, 0x200 are)",
  })
  t.throws(() => bitmap('granularity=9007199254740993'), { message: /cannot be sent exactly/ })
  t.throws(() => bitmap('share=much'), { message: "'share' is a number, and 'much' is none" })
  t.throws(() => bitmap('tags.x=1'), { message: "'tags' is a list: its keys are tags.0, tags.1, ..." })
  t.end()
})

void t.test('the tag selects the variant, wherever it stands in the line', (t) => {
  const add = (text: string): unknown => read('blockdev-add', text)
  t.same(add('size=1M driver=raw file=5 read-only=on'), { size: 1048576, driver: 'raw', file: '5', 'read-only': true })
  t.same(add('driver=raw file.driver=nbd file.server.type=inet file.server.port=10809'), {
    driver: 'raw',
    file: { driver: 'nbd', server: { type: 'inet', port: '10809' } },
  })
  t.same(add('driver=quorum children=a,b vote-threshold=2'), {
    driver: 'quorum',
    children: ['a', 'b'],
    'vote-threshold': 2,
  })
  t.same(add('driver=quorum children.0.driver=file children.0.filename=x children.1=b'), {
    driver: 'quorum',
    children: [{ driver: 'file', filename: 'x' }, 'b'],
  })
  t.throws(() => add('driver=nbd server=x'), { message: /'server' is an object: give it as server\.NAME=VALUE/ })
  t.throws(() => add('driver=nbdd'), { message: "'driver' cannot be 'nbdd': did you mean 'nbd'?" })
  t.throws(() => add('driver=zzz'), { message: "'driver' cannot be 'zzz': it is one of file, nbd, quorum, raw" })
  t.throws(() => add('read-only=perhaps'), { message: "'read-only' is true or false, not 'perhaps'" })
  t.end()
})

void t.test('what the schema does not know is sent as it looks', (t) => {
  t.same(untyped('a=5 b=true c=null d=-0.5 e=05 f=1e3 g=x'), {
    a: 5,
    b: true,
    c: null,
    d: -0.5,
    e: '05',
    f: 1000,
    g: 'x',
  })
  t.same(untyped('a=99999999999999999999'), { a: '99999999999999999999' }, 'never rounded')
  t.same(untyped('a.0=x a.1=y b.x=1'), { a: ['x', 'y'], b: { x: 1 } })
  t.same(untyped('__proto__.x=1'), JSON.parse('{"__proto__": {"x": 1}}'))
  t.end()
})

void t.test('JSON objects and keys stand together, but nothing is given twice', (t) => {
  t.same(untyped('{"a": {"b": [1, "}"]}} c=2'), { a: { b: [1, '}'] }, c: 2 })
  t.throws(() => untyped('{"a": 1} a=2'), { message: "'a' is given twice" })
  t.throws(() => untyped('a=1 a.b=2'), { message: "'a.b' is given, and also what it is a part of" })
  t.throws(() => untyped('a.b=2 a=1'), { message: "'a' is given twice" })
  t.throws(() => untyped('a..b=2'), { message: "'a..b' is no key: a part of it is empty" })
  t.throws(() => untyped('[1]'), { message: /'\[1\]' is no argument/ })
  t.throws(() => untyped('{"a": }'), { message: /this is not JSON: \{"a": \}/ })
  t.end()
})

void t.test('variables stand for values, and in text for text', (t) => {
  t.same(untyped('a=$five b="$five" c=x$five d=${n}1 e=\'$n\''), { a: 5, b: '5', c: 'x5', d: 'disk01', e: '$n' })
  t.same(untyped('a=$deep.list[0].node-name b={"x": $deep.list, "y": "$n"}'), {
    a: 'a',
    b: { x: [{ 'node-name': 'a' }], y: '$n' },
  })
  t.same(untyped('$deep.args y=1'), { node: 'x', y: 1 }, 'an object is arguments')
  t.throws(() => untyped('a=$deep.list[3]'), { message: '$deep.list has no [3]: it is a list of 1' })
  t.throws(() => untyped('a=$deep.lost'), { message: "$deep has no 'lost', but: list, args" })
  t.throws(() => untyped('a=$five.x'), { message: "$five has no 'x': it is 5" })
  t.end()
})

void t.test('quotes, comments and what is not closed', (t) => {
  t.same(untyped('a="x \\"y\\" \\n z" b=\'it is\' c=""'), { a: 'x "y" \n z', b: 'it is', c: '' })
  t.same(untyped('a=#block123 # a comment b=1'), { a: '#block123' })
  t.equal(unclosedIn('x a="b'), 'quote')
  t.equal(unclosedIn('{"a": ["b}"'), 'bracket')
  t.equal(unclosedIn('{"a": "b'), 'quote')
  t.equal(unclosedIn('x {"a": "\\"}"}'), undefined)
  t.equal(unclosedIn('hmp p "a'), undefined, 'a human monitor has its own quotes')
  t.throws(() => readCommandLine('x a="b'), { message: 'the line ends within a quote that is not closed' })
  t.end()
})

void t.test('no prefix of a line, and no line of noise, does more than to throw a UsageError', (t) => {
  const line = '@qemu blockdev-add {"a": [$x.y[0], "\\"}"]} b.c=\'d\' e="f ${g} \\\\" # h'
  const strange = Array.from('{}[]"\'$=\\.@!# \t\n\u0000é😀')
  const noise = strange.flatMap((one) => Array.from('{["\'$=@!#\\', (two) => `x${one}${two}${one}y`))
  for (const text of [...Array.from(line, (_, end) => line.slice(0, end)), ...noise]) {
    try {
      const read = readCommandLine(text)
      if (read.kind === 'qmp') readArguments(read.words, variables)
    } catch (error) {
      t.match(error, { name: 'UsageError' }, JSON.stringify(text))
    }
  }
  t.end()
})

void t.test('a line asks for a command of the console, of a server, or is a message', (t) => {
  t.match(readCommandLine('  '), { kind: 'nothing' })
  t.match(readCommandLine('# x'), { kind: 'nothing' })
  t.match(readCommandLine('@a'), { kind: 'own', target: 'a', name: 'use' })
  t.match(readCommandLine('@a stop'), { kind: 'qmp', target: 'a', command: 'stop', oob: false })
  t.match(readCommandLine('oob yank x=1'), { kind: 'qmp', command: 'yank', oob: true })
  t.match(readCommandLine('hmp info "x  y'), { kind: 'own', name: 'hmp', rest: 'info "x  y' })
  t.match(readCommandLine('{"execute": "stop"}'), { kind: 'message', command: 'stop', oob: false })
  t.match(readCommandLine('{"exec-oob": "yank"}'), { kind: 'message', command: 'yank', oob: true })
  t.throws(() => readCommandLine('a=b'), { message: /'a=b' is no command/ })
  t.throws(() => readCommandLine('{"execute": 5}'), { message: /a line of JSON is/ })
  t.throws(() => readCommandLine('{"execute": "stop"} x=1'), { message: /a line of JSON is/ })
  t.end()
})

void t.test('of a recording by qmp-share the commands are sent, and the rest is passed over', (t) => {
  const recorded = (direction: string, message: object): string =>
    JSON.stringify({ time: '2026-01-01T00:00:00.000Z', direction, client: 1, message })
  t.match(readCommandLine(recorded('command', { execute: 'stop', id: 7 })), { kind: 'message', command: 'stop' })
  t.match(readCommandLine(recorded('command', { execute: 'qmp_capabilities' })), { kind: 'nothing' })
  t.match(readCommandLine(recorded('reply', { return: {} })), { kind: 'nothing' })
  t.match(readCommandLine(recorded('event', { event: 'STOP' })), { kind: 'nothing' })
  t.match(readCommandLine('{"time": "x", "left": 5}'), { kind: 'nothing' })
  t.same(commandIn({ time: 'x', direction: 'command', message: { execute: 'a', arguments: {} } }), {
    execute: 'a',
    arguments: {},
  })
  t.end()
})
