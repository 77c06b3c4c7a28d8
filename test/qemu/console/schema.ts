/** A schema as small as it can be with all that QEMU's has. */
import { QmpSchema } from '../../../src/qmp/schema-model.js'

const members = (described: Record<string, string>): object[] =>
  Object.entries(described).map(([name, type]) =>
    type.startsWith('?') ? { name, type: type.slice(1), default: null } : { name, type },
  )
const object = (name: string, described: Record<string, string>, more = {}): object => ({
  name,
  'meta-type': 'object',
  members: members(described),
  ...more,
})
const builtin = (name: string, json: string): object => ({ name, 'meta-type': 'builtin', 'json-type': json })
const choice = (name: string, ...values: string[]): object => ({ name, 'meta-type': 'enum', values })
const variants = (cases: Record<string, string>): object[] =>
  Object.entries(cases).map(([value, type]) => ({ case: value, type }))
const command = (name: string, args: string, returns = 'none', more = {}): object => ({
  name,
  'meta-type': 'command',
  'arg-type': args,
  'ret-type': returns,
  ...more,
})

export const SCHEMA_ENTRIES = [
  builtin('str', 'string'),
  builtin('int', 'int'),
  builtin('number', 'number'),
  builtin('bool', 'boolean'),
  builtin('any', 'value'),
  builtin('null', 'null'),
  object('none', {}),
  choice('driver', 'file', 'nbd', 'quorum', 'raw'),
  object(
    'blockdev',
    { driver: 'driver', 'node-name': '?str', 'read-only': '?bool' },
    { tag: 'driver', variants: variants({ file: 'file', nbd: 'nbd', quorum: 'quorum', raw: 'raw' }) },
  ),
  object('file', { filename: 'str' }),
  object('raw', { file: 'ref', offset: '?int', size: '?int' }),
  object('nbd', { server: 'address' }),
  object('quorum', { children: '[ref]', 'vote-threshold': 'int' }),
  { name: 'ref', 'meta-type': 'alternate', members: [{ type: 'blockdev' }, { type: 'str' }] },
  { name: '[ref]', 'meta-type': 'array', 'element-type': 'ref' },
  choice('family', 'inet', 'unix'),
  object('address', { type: 'family' }, { tag: 'type', variants: variants({ inet: 'inet', unix: 'unix' }) }),
  object('inet', { host: 'str', port: 'str' }),
  object('unix', { path: 'str' }),
  { name: '[str]', 'meta-type': 'array', 'element-type': 'str' },
  object('bitmap', { node: 'str', name: 'str', granularity: '?int', tags: '?[str]', share: '?number', value: '?any' }),
  object('bitmap-data', { data: 'bitmap' }),
  object('stop-data', { data: 'none' }),
  choice('kind', 'block-bitmap-add', 'abort'),
  object(
    'action',
    { type: 'kind' },
    { tag: 'type', variants: variants({ 'block-bitmap-add': 'bitmap-data', abort: 'stop-data' }) },
  ),
  { name: '[action]', 'meta-type': 'array', 'element-type': 'action' },
  object('actions', { actions: '[action]' }),
  object('status', { status: 'str', running: 'bool', note: '?str' }),
  command('blockdev-add', 'blockdev'),
  command('block-bitmap-add', 'bitmap'),
  command('transaction', 'actions'),
  command('query-status', 'none', 'status'),
  command('stop', 'none', 'none', { description: 'Stops.' }),
  command('yank', 'none', 'none', { 'allow-oob': true }),
  { name: 'STOP', 'meta-type': 'event', 'arg-type': 'none' },
]

export const SCHEMA = QmpSchema.parse(SCHEMA_ENTRIES)
