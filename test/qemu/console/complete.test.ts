/** What Tab offers, given a schema with all that QEMU's has: enumerations, variants, alternates, lists. */
import t from 'tap'
import { QmpSchema } from '../../../src/qmp/schema-model.js'
import { commonPrefix, complete, withLive, type Completion } from '../../../qemu/console/complete.js'
import { questionsFor } from '../../../qemu/console/live-names.js'
import { Variables } from '../../../qemu/console/variables.js'
import { SCHEMA } from './schema.js'

const variables = new Variables()
variables.set('job', { status: 'running', list: [{ name: 'a' }] })

function at(line: string, { collecting = false, current = 'qemu' } = {}): Completion {
  const schemaOf = (target: string): QmpSchema | undefined => (target === 'qemu' ? SCHEMA : undefined)
  return complete(line, { targets: ['qemu', 'nbd-remap'], current, schemaOf, variables, collecting })
}
const texts = (line: string, how = {}): string[] => at(line, how).candidates.map(({ text }) => text)

void t.test('commands of the server and of the console, and targets', (t) => {
  t.same(texts('block'), ['block-bitmap-add', 'blockdev-add'])
  t.same(texts('st'), ['stop'])
  t.ok(['help', 'use', 'stop', 'oob'].every((name) => texts('').includes(name)))
  t.same(texts('@'), ['@qemu', '@nbd-remap'])
  t.same(texts('@qemu sto'), ['stop'])
  t.same(texts('@none sto'), [])
  t.same(texts('use '), ['qemu', 'nbd-remap'])
  t.same(texts('use qemu '), [])
  t.same(texts('oob '), ['yank'])
  t.same(texts('help blockd'), ['blockdev-add'])
  t.same(texts('wait S'), ['STOP'])
  t.same(texts('events o'), ['on', 'off'])
  t.same(texts('block', { current: 'nbd-remap' }), [], 'a server without a schema')
  t.end()
})

void t.test('arguments: required ones first, given ones no more, those of the variant that the tag selects', (t) => {
  t.same(texts('blockdev-add '), ['driver=', 'node-name=', 'read-only='])
  t.same(at('blockdev-add ').candidates[0]?.hint, 'file|nbd|quorum|raw, required')
  t.same(texts('blockdev-add driver=nbd '), ['server.', 'node-name=', 'read-only='])
  t.same(texts('blockdev-add driver=nbd server.'), ['server.type='])
  t.same(texts('blockdev-add driver=nbd server.type=unix server.'), ['server.path='])
  t.same(texts('blockdev-add driver=nbd server.type=inet server.'), ['server.host=', 'server.port='])
  t.same(texts('blockdev-add driver=raw node-name=r f'), ['file=', 'file.'], 'a node by name, or described')
  t.same(texts('blockdev-add driver=raw file.driver=nbd file.'), ['file.server.', 'file.node-name=', 'file.read-only='])
  t.same(texts('blockdev-add driver=quorum children.'), ['children.0=', 'children.0.'].slice(1))
  t.same(texts('blockdev-add driver=quorum children.0.driver=file children.'), ['children.0.', 'children.1.'])
  t.same(texts('blockdev-add {"driver": "nbd"} s'), ['server.'], 'JSON says it, too')
  t.same(texts('blockdev-add broken= driver=nbd s'), ['server.'], 'what is wrong elsewhere does not matter')
  t.same(texts('stop '), [])
  t.same(texts('unknown '), [])
  t.end()
})

void t.test('values: enumerations, booleans, and what only the server knows', (t) => {
  t.same(texts('blockdev-add driver='), ['file', 'nbd', 'quorum', 'raw'])
  t.same(texts('blockdev-add driver=q'), ['quorum'])
  t.same(texts('blockdev-add driver=file read-only='), ['true', 'false'])
  t.equal(at('blockdev-add driver=q').start, 'blockdev-add driver='.length)
  t.same(at('blockdev-add driver=raw file=di').live, { target: 'qemu', kind: 'nodes', prefix: 'di' })
  t.same(at('block-bitmap-add node=').live, { target: 'qemu', kind: 'nodes', prefix: '' })
  t.equal(at('blockdev-add driver=raw node-name=').live, undefined, 'a new name')
  t.same(at('hmp inf').live, { target: 'qemu', kind: 'human-commands', prefix: 'inf' })
  t.same(at('hmp info blo').live, { target: 'qemu', kind: 'human-info', prefix: 'blo' })
  t.equal(at('hmp drive_add x').live, undefined)
  const completed = withLive(at('block-bitmap-add node=d'), ['disk1', 'disk0', 'other', 'disk0'])
  t.same(completed.candidates, [
    { text: 'disk0', suffix: ' ' },
    { text: 'disk1', suffix: ' ' },
  ])
  t.equal(commonPrefix(completed.candidates), 'disk')
  t.end()
})

void t.test('in a transaction only what can be an action is offered, with its arguments', (t) => {
  const how = { collecting: true }
  t.same(texts('b', how), ['begin', 'block-bitmap-add'])
  t.same(texts('block-bitmap-add no', how), ['node='])
  t.same(texts('stop', how), [])
  t.end()
})

void t.test('variables and what is in them', (t) => {
  t.same(texts('print $j'), ['job'])
  t.same(texts('print $job.'), ['status', 'list'])
  t.same(texts('block-bitmap-add node=$job.st'), ['status'])
  t.same(texts('print $job.list[0].'), ['name'])
  t.same(texts('print $none.'), [])
  t.end()
})

void t.test('nothing is offered within JSON, and no half of a line is too strange', (t) => {
  t.same(texts('blockdev-add {"dri'), [])
  for (const line of [
    '@',
    '"',
    "'",
    '=',
    'a.b=',
    '{',
    'blockdev-add .',
    'blockdev-add driver=nbd server..',
    'set x = "',
    '$',
    '${',
  ])
    t.doesNotThrow(() => at(line), line)
  t.end()
})

void t.test('a QOM path is looked up folder by folder', (t) => {
  const [question] = questionsFor('qom', '/machine/per')
  t.same(question?.arguments, { path: '/machine' })
  const answer = [
    { name: 'peripheral', type: 'child<container>' },
    { name: 'type', type: 'string' },
  ]
  t.same(question?.pick(answer), ['/machine/peripheral'])
  t.same(questionsFor('qom', '/mach')[0]?.arguments, { path: '/' })
  const paths = (typed: string, ...found: string[]): string[] =>
    withLive({ start: 0, candidates: [], live: { target: 'qemu', kind: 'qom', prefix: typed } }, found).candidates.map(
      ({ text, suffix }) => text + suffix,
    )
  t.same(paths('/mach', '/machine'), ['/machine'], 'it may go on')
  t.same(paths('/machine', '/machine'), ['/machine/'])
  t.end()
})
