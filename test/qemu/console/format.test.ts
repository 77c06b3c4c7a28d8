/** What people see: values, events, help; and that nothing a server says steers the terminal. */
import t from 'tap'
import { EventPatterns } from '../../../qemu/console/event-patterns.js'
import { formatEvent, formatValue, harmless, inColumns } from '../../../qemu/console/format.js'
import { commandHelp, overview } from '../../../qemu/console/help.js'
import { nameTargets, parseTarget } from '../../../qemu/console/names.js'
import { scriptLines } from '../../../qemu/console/script.js'
import { SCHEMA } from './schema.js'

const plain = { colour: false, columns: 40 }

void t.test('a value is on one line if it fits, and can be typed in again', (t) => {
  t.equal(
    formatValue({ a: 1, b: ['x', true, null], c: {} }, plain),
    '{\n  "a": 1,\n  "b": ["x", true, null],\n  "c": {}\n}',
  )
  t.equal(formatValue({ a: 1, b: [] }, plain), '{ "a": 1, "b": [] }')
  const value = { list: [{ text: 'a long text that has no room' }, 5], text: 'x\u001b[2J\u009b\u202e"' }
  t.same(JSON.parse(formatValue(value, plain)), value)
  t.end()
})

void t.test('colours change nothing but the colour', (t) => {
  const value = { text: 'x', list: [1, true, { a: null }], long: 'y'.repeat(40) }
  const bare = formatValue(value, { ...plain, colour: true }).replaceAll(/\u001b\[[\d;]*m/g, '')
  t.equal(bare, formatValue(value, plain))
  t.end()
})

void t.test('no server steers the terminal', (t) => {
  const evil = '\u001b]0;title\u0007\u009b2J\u202e\r\nx'
  const event = { event: evil, data: { [evil]: evil }, timestamp: { seconds: -1, microseconds: -1 } }
  for (const text of [formatValue({ [evil]: evil }, plain), formatEvent('q', event, plain), harmless(evil)])
    t.notMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/)
  t.match(formatEvent('q', event, plain), /^--:--:--\.--- q: /)
  t.end()
})

void t.test('columns are as ls has them', (t) => {
  t.equal(inColumns(['a', 'bb', 'c', 'd', 'e'], 12), 'a   c   e\nbb  d')
  t.equal(inColumns([], 80), '')
  t.equal(inColumns(['longer than the terminal'], 5), 'longer than the terminal')
  t.end()
})

void t.test('patterns of events', (t) => {
  const shows = (patterns: string, event: string, target = 'qemu'): boolean =>
    new EventPatterns(patterns.split(' ')).matches(target, event)
  t.equal(shows('on', 'STOP'), true)
  t.equal(shows('off', 'STOP'), false)
  t.equal(shows('BLOCK_* STOP', 'BLOCK_JOB_READY'), true)
  t.equal(shows('block_*', 'BLOCK_JOB_READY'), true, 'in either case')
  t.equal(shows('BLOCK_* STOP', 'RESUME'), false)
  t.equal(shows('!CLIENT_*', 'CLIENT_CONNECTED'), false)
  t.equal(shows('!CLIENT_*', 'STOP'), true)
  t.equal(shows('nbd-remap:*', 'STOP'), false)
  t.equal(shows('nbd-remap:* !*:X', 'STOP', 'nbd-remap'), true)
  t.equal(shows('a.c', 'abc'), false, 'only * is special')
  t.end()
})

void t.test('targets are named by what answers, or as they were given', (t) => {
  t.match(parseTarget('vm=/run/a.qmp'), { name: 'vm', address: '/run/a.qmp' })
  t.match(parseTarget('/run/a=b'), { name: undefined, address: '/run/a=b' })
  t.match(parseTarget('x=:5'), { name: 'x', address: { port: 5 } })
  t.throws(() => parseTarget(''), { name: 'UsageError' })
  const [unnamed, given] = [
    { name: undefined, program: 'qemu' },
    { name: 'qemu', program: 'nbd-remap' },
  ]
  t.same(nameTargets([unnamed, given, unnamed]), ['qemu2', 'qemu', 'qemu3'])
  t.end()
})

void t.test('help is made from the schema', (t) => {
  const help = (name: string, given = {}): string => commandHelp(SCHEMA.commands.get(name)!, given)
  t.equal(help('stop'), 'stop\n  Stops.\nNo arguments.\nReturns nothing.')
  t.match(
    help('blockdev-add'),
    /\n {2}driver +file\|nbd\|quorum\|raw, required\n.*What else there is depends on driver: help blockdev-add driver=/s,
  )
  t.match(help('blockdev-add', { driver: 'nbd' }), / {2}server +object, required: type\n/)
  t.match(help('blockdev-add', { driver: 'nbd', server: { type: 'unix' } }), / {2}server\.path +string, required\n/)
  t.match(help('query-status'), /Returns:\n {2}status +string\n {2}running +boolean\n {2}note +string, may be absent$/)
  t.match(help('yank'), 'May overtake others: oob COMMAND.')
  t.match(overview(SCHEMA, 'qemu', 80), /Commands of qemu \(help COMMAND tells more\):\n/)
  t.match(overview(undefined, 'x', 80), /x does not tell its commands/)
  t.end()
})

void t.test('lines of a script go on until they are closed', async (t) => {
  const text = ['a', '{"execute":', ' "b"}', "# it's", 'c \\', ' d', 'e "']
  const lines = []
  for await (const line of scriptLines(text, 's:')) lines.push(line)
  t.same(lines, [
    { where: 's:1', text: 'a' },
    { where: 's:2', text: '{"execute":\n "b"}' },
    { where: 's:4', text: "# it's" },
    { where: 's:5', text: 'c   d' },
    { where: 's:7', text: 'e "\n' },
  ])
})
