import t from 'tap'
import { command, helpText, schemaOf } from '../../src/qmp/index.js'
import { checkMembers, type QmpMembers } from '../../src/qmp/schema.js'

const refusal = (members: QmpMembers, given: Record<string, unknown>): string | undefined => {
  try {
    checkMembers(members, given)
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

void t.test('every kind is checked, and the refusal names the place', (t) => {
  const members: QmpMembers = {
    list: {
      kind: 'array',
      of: { kind: 'object', members: { n: { kind: 'int', max: 5 } } },
      itemsMax: 2,
      optional: true,
    },
    mode: { kind: 'enum', values: ['eio', 'zero'], optional: true },
    on: { kind: 'bool', optional: true },
    ratio: { kind: 'number', optional: true },
    name: { kind: 'str', optional: true },
    any: { kind: 'any', optional: true },
  }
  t.equal(refusal(members, { list: [{ n: 5 }], mode: 'eio', on: false, ratio: 0.5, name: '', any: null }), undefined)
  t.equal(refusal(members, {}), undefined)
  const refusals: [Record<string, unknown>, string][] = [
    [{ list: {} }, "Invalid parameter type for 'list', expected: array"],
    [{ list: [5] }, "Invalid parameter type for 'list[0]', expected: object"],
    [{ list: [{ n: 1 }, { n: true }] }, "Invalid parameter type for 'list[1].n', expected: integer"],
    [{ list: [{ n: 6 }] }, "Parameter 'list[0].n' expects a value of at most 5"],
    [{ list: [{}] }, "Parameter 'list[0].n' is missing"],
    [{ list: [{ n: 1, m: 2 }] }, "Parameter 'list[0].m' is unexpected"],
    [{ list: [{ n: 1 }, { n: 1 }, { n: 1 }] }, "Parameter 'list' expects at most 2 items"],
    [{ mode: 'x' }, "Parameter 'mode' does not accept value 'x' (known are eio, zero)"],
    [{ mode: 5 }, "Invalid parameter type for 'mode', expected: string"],
    [{ on: 1 }, "Invalid parameter type for 'on', expected: boolean"],
    [{ ratio: '1' }, "Invalid parameter type for 'ratio', expected: number"],
    [{ name: null }, "Invalid parameter type for 'name', expected: string"],
    [{ ['x'.repeat(1000)]: 1 }, `Parameter '${'x'.repeat(64)}...' is unexpected`],
  ]
  for (const [given, desc] of refusals) t.equal(refusal(members, given), desc)
  t.end()
})

void t.test('types that look alike share an entry of the schema', (t) => {
  const list = command({
    description: 'Lists.',
    arguments: { mode: { kind: 'enum', values: ['a', 'b'], optional: true } },
    returns: { kind: 'array', of: { kind: 'object', members: { s: { kind: 'str' } } } },
    handler: ({ mode = 'a' }) => [{ s: mode }],
  })
  const schema = schemaOf(new Map([['x', list], ['y', list]]), {}) // prettier-ignore
  t.same(schema, [
    {
      name: 'x',
      'meta-type': 'command',
      'arg-type': '1',
      'ret-type': '[2]',
      'allow-oob': false,
      description: 'Lists.',
    },
    {
      name: 'y',
      'meta-type': 'command',
      'arg-type': '1',
      'ret-type': '[2]',
      'allow-oob': false,
      description: 'Lists.',
    },
    { name: '0', 'meta-type': 'enum', members: [{ name: 'a' }, { name: 'b' }], values: ['a', 'b'] },
    { name: '1', 'meta-type': 'object', members: [{ name: 'mode', type: '0', default: null }] },
    { name: 'str', 'meta-type': 'builtin', 'json-type': 'string' },
    { name: '2', 'meta-type': 'object', members: [{ name: 's', type: 'str' }] },
    { name: '[2]', 'meta-type': 'array', 'element-type': '2' },
  ])
  t.end()
})

void t.test('help shows each command with its arguments', (t) => {
  const ping = command({ description: 'Answers.', handler: () => undefined })
  const add = command({
    description: 'Remaps.',
    arguments: { 'main-sector': { kind: 'size' }, 'spare-sector': { kind: 'size', optional: true } },
    handler: () => undefined,
  })
  t.equal(
    helpText(new Map(Object.entries({ ping, 'remap-add': add }))),
    'ping                                  Answers.\nremap-add main-sector [spare-sector]  Remaps.\n',
  )
  t.end()
})
