import t from 'tap'
import { command, membersOf, objectIn, QmpSchema, schemaOf, typeAt, typeText, wordsOf } from '../../src/qmp/index.js'
import { qemuMonitor } from '../support/qemu-monitor.js'

void t.test('QEMU: commands, events, and what stands where in blockdev-add', async (t) => {
  await using client = await qemuMonitor(t)
  const schema = QmpSchema.parse(await client.execute('query-qmp-schema'))
  t.ok(schema.commands.size > 100)
  t.equal(schema.commands.get('yank')?.oob, true)
  t.equal(schema.commands.get('stop')?.oob, false)
  t.same(schema.commands.get('drive-backup')?.features, ['deprecated'])
  t.match(
    schema.events
      .get('BLOCK_IO_ERROR')
      ?.data.members.map(({ name }) => name)
      .sort(),
    ['action', 'device', 'node-name', 'nospace', 'operation', 'reason'],
  )

  const add = schema.commands.get('blockdev-add')
  if (add === undefined) throw new Error('no blockdev-add')
  const names = (given: Record<string, unknown>): string[] => membersOf(add.arguments, given).map(({ name }) => name)
  t.notOk(names({}).includes('filename'))
  t.ok(names({ driver: 'file' }).includes('filename'))
  t.ok(names({ driver: 'blkdebug' }).includes('inject-error'))
  const optional = Object.fromEntries(membersOf(add.arguments).map((member) => [member.name, member.optional]))
  t.match(optional, { driver: false, 'node-name': true })

  const at = (path: string, given: Record<string, unknown>): string | undefined => {
    const type = typeAt(add.arguments, path.split('.'), given)
    return type && typeText(type)
  }
  t.equal(at('read-only', {}), 'boolean')
  t.equal(at('file.filename', { driver: 'raw', file: { driver: 'file' } }), 'string')
  t.equal(at('file.filename', { driver: 'raw', file: { driver: 'nbd' } }), undefined)
  t.equal(at('file.server.type', { driver: 'raw', file: { driver: 'nbd' } }), 'inet|unix|vsock|fd')
  t.equal(at('inject-error.0.iotype', { driver: 'blkdebug' }), 'read|write|write-zeroes|discard|flush|block-status')
  t.equal(at('inject-error.first', { driver: 'blkdebug' }), undefined)
  t.equal(at('file', { driver: 'raw' }), 'object or string')
  const file = typeAt(add.arguments, ['file'], { driver: 'raw' })
  t.equal(file && objectIn(file), add.arguments, 'the circle closes')
  const driver = typeAt(add.arguments, ['driver'])
  t.ok(driver && wordsOf(driver).includes('qcow2'))
})

void t.test('the schema of a monitor of ours can be read, with descriptions', (t) => {
  const commands = new Map([
    [
      'paint',
      command({
        description: 'Paint it.',
        arguments: { colour: { kind: 'enum', values: ['red', 'blue'] }, thick: { kind: 'bool', optional: true } },
        returns: { kind: 'array', of: { kind: 'int' } },
        handler: () => [],
      }),
    ],
  ])
  const { commands: parsed, events } = QmpSchema.parse(
    schemaOf(commands, { DRY: { description: 'Paint is dry.', data: { at: { kind: 'number' } } } }),
  )
  const paint = parsed.get('paint')
  t.equal(paint?.description, 'Paint it.')
  t.equal(paint && typeText(paint.returns), '[int]')
  t.same(
    paint?.arguments.members.map(({ name, type, optional }) => [name, wordsOf(type), optional]),
    [
      ['colour', ['red', 'blue'], false],
      ['thick', ['true', 'false'], true],
    ],
  )
  t.match(events.get('DRY'), { description: 'Paint is dry.', data: { members: [{ name: 'at' }] } })
  t.end()
})

void t.test('what is no schema is refused, with the place', (t) => {
  const refused = (answer: unknown, message: RegExp): void => {
    t.throws(() => QmpSchema.parse(answer), { name: 'QmpProtocolError', message })
  }
  const good = { name: '0', 'meta-type': 'object', members: [] }
  refused({}, /not an array/)
  refused([good, 'x'], /entry 1 of the schema has no name/)
  refused([{ name: 'c', 'meta-type': 'command', 'arg-type': '1', 'ret-type': '1' }], /of 'c': there is no type '1'/)
  refused([good, { name: 'c', 'meta-type': 'command', 'arg-type': '0' }], /of 'c' lacks the name of a type/)
  refused(
    [
      { name: 'e', 'meta-type': 'event', 'arg-type': 's' },
      { name: 's', 'meta-type': 'builtin', 'json-type': 'string' },
    ],
    /of 'e': type 's' is no object/,
  )
  refused(
    [
      { name: 'e', 'meta-type': 'event', 'arg-type': 's' },
      { name: 's', 'meta-type': 'riddle' },
    ],
    /'riddle'/,
  )
  t.end()
})
