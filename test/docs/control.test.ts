/** docs/CONTROL.md against the command and event tables that the program works from. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { controlCommands, type ControlSubject } from '../../src/control/commands.js'
import { HOOK_LIMITS } from '../../src/control/event-hook.js'
import { CONTROL_EVENTS } from '../../src/control/events.js'
import { QmpClient, QmpCommandError } from '../../src/qmp/index.js'
import { MONITOR_LIMITS, QmpMonitor, qmpVersion } from '../../src/qmp/monitor.js'
import { checkMembers, type EventTable, type QmpMembers, type QmpType } from '../../src/qmp/schema.js'
import { Document, namesIn } from '../support/documents.js'
import { socketDirectory } from '../support/upstream-servers.js'

const document = new Document('docs/CONTROL.md')
const EVENTS: EventTable = CONTROL_EVENTS
// Nothing here runs a command that would look at its subject.
const monitor = new QmpMonitor({
  version: qmpVersion('nbd-remap', '0.1.0'),
  commands: controlCommands({} as ControlSubject, () => Promise.reject(new Error('not asked'))),
  events: CONTROL_EVENTS,
})

/** The `###` headings below a `##` heading. */
function subheadings(heading: string): string[] {
  const [, rest = ''] = document.text.split(`\n## ${heading}\n`)
  const [section = ''] = rest.split('\n## ')
  return [...section.matchAll(/^### `([^`]+)`$/gm)].map(([, name = '']) => name)
}

interface Member {
  readonly name: string
  readonly kind: QmpType['kind']
  readonly values: readonly string[]
}

/** `main.name`, `clients[].id`: what a value holds, down to what is no object. */
function flatten(name: string, type: QmpType): Member[] {
  if (type.kind === 'object') {
    const prefix = name === '' ? '' : `${name}.`
    return Object.entries(type.members).flatMap(([member, of]) => flatten(prefix + member, of))
  }
  if (type.kind === 'array' && type.of.kind === 'object') return flatten(`${name}[]`, type.of)
  return [{ name, kind: type.kind, values: type.kind === 'enum' ? type.values : [] }]
}

/** `query-version` and `query-qmp-schema` return what has no members to list. */
const membersOf = (type: QmpType | undefined): Member[] =>
  type === undefined ? [] : flatten('', type).filter(({ name }) => name !== '')

function rowsUnder(heading: string, firstColumn: string): readonly (readonly string[])[] {
  return document.tables.find((table) => table.heading === heading && table.columns[0] === firstColumn)?.rows ?? []
}

function assertMembers(t: Test, heading: string, members: readonly Member[]): void {
  const rows = rowsUnder(heading, 'member')
  t.same(
    rows.map(([name, type]) => `${name ?? ''}: ${type ?? ''}`),
    members.map(({ name, kind }) => `${name}: ${kind}`),
    `${heading}: members and their types`,
  )
  for (const [n, { name, values }] of members.entries()) {
    const [, , meaning = ''] = rows[n] ?? []
    // A cell that is nothing but one name has lost its backticks.
    const named = [...namesIn(meaning), meaning]
    t.same(
      values.filter((value) => !named.includes(value)),
      [],
      `${heading}: the values of ${name} are named`,
    )
  }
}

void t.test('the commands are those of the program, with their arguments and results', (t) => {
  t.same(subheadings('Commands').sort(), [...monitor.commands.keys()].sort())
  for (const [name, command] of monitor.commands) {
    t.same(
      rowsUnder(name, 'argument').map(([argument, type, required]) => ({ argument, type, required })),
      Object.entries(command.arguments).map(([argument, { kind, optional }]) => ({
        argument,
        type: kind,
        required: optional === true ? 'no' : 'yes',
      })),
      `${name}: arguments`,
    )
    assertMembers(t, name, membersOf(command.returns))
  }
  t.end()
})

void t.test('the events are those of the program, with their data', (t) => {
  t.same(subheadings('Events').sort(), Object.keys(EVENTS).sort())
  for (const [name, { data = {} }] of Object.entries(EVENTS)) {
    assertMembers(t, name, membersOf({ kind: 'object', members: data }))
  }
  t.end()
})

void t.test('the limits are those of the program', (t) => {
  const rows = document.table('Limits', 'limit').rows.map(([name = '', value]) => [name, Number(value)] as const)
  t.same(Object.fromEntries(rows), MONITOR_LIMITS)
  t.end()
})

interface Message {
  readonly execute?: string
  readonly arguments?: Readonly<Record<string, unknown>>
  readonly return?: unknown
  readonly error?: { readonly class: string; readonly desc: string }
  readonly event?: string
  readonly data?: Readonly<Record<string, unknown>>
}

/** Each command of the examples with what follows it until the next one. */
function exchanges(): { command: Message | undefined; answers: Message[] }[] {
  const found: { command: Message | undefined; answers: Message[] }[] = []
  for (const { text } of document.blocks.filter(({ language }) => language === '')) {
    let current: (typeof found)[number] = { command: undefined, answers: [] }
    found.push(current)
    for (const line of text.trim().split('\n')) {
      const message = JSON.parse(line.slice(3)) as Message
      if (line.startsWith('<- ')) {
        current.answers.push(message)
      } else {
        current = { command: message, answers: [] }
        found.push(current)
      }
    }
  }
  return found
}

const assertValue = (t: Test, type: QmpType, value: unknown, what: string): void => {
  const members: QmpMembers = { value: type }
  t.doesNotThrow(() => {
    checkMembers(members, { value })
  }, what)
}

void t.test('what the examples return and announce is as the tables say', (t) => {
  const all = exchanges()
  t.ok(all.length > 10)
  for (const { command, answers } of all) {
    for (const answer of answers) {
      if (answer.event !== undefined) {
        const members = EVENTS[answer.event]?.data ?? {}
        assertValue(t, { kind: 'object', members }, answer.data ?? {}, `example of ${answer.event}`)
      } else if ('return' in answer) {
        const name = command?.execute ?? ''
        const known = monitor.commands.get(name)
        t.ok(known, `${name} is a command`)
        assertValue(t, known?.returns ?? { kind: 'object', members: {} }, answer.return, `example of ${name}`)
      } else {
        t.ok(answer.error)
      }
    }
  }
  t.end()
})

void t.test('the examples of errors are what the program answers', async (t) => {
  const path = join(await socketDirectory(t), 'qmp')
  await monitor.listen({ path })
  const client = await QmpClient.connect(path)
  const errors = document.blocks.filter(({ heading }) => heading === 'Errors')
  t.equal(errors.length, 1)
  const lines = (errors[0]?.text ?? '').trim().split('\n')
  for (let n = 0; n < lines.length; n += 2) {
    const command = JSON.parse((lines[n] ?? '').slice(3)) as Message
    const { error } = JSON.parse((lines[n + 1] ?? '').slice(3)) as Message
    const thrown: unknown = await client.execute(command.execute ?? '', command.arguments).catch((e: unknown) => e)
    t.ok(thrown instanceof QmpCommandError)
    t.match(thrown, { errorClass: error?.class, desc: error?.desc })
  }
  await client.close()
  await monitor.close()
})

void t.test('the limits of commands for events are those of the program', (t) => {
  const { runningMax, waitingMax, msMax } = HOOK_LIMITS
  const text = document.section('A command for each event').replaceAll('\n', ' ')
  t.match(text, `At most ${runningMax} commands run at once, and ${waitingMax} events wait`)
  t.match(text, `longer than ${msMax / 1000} s is killed`)
  t.end()
})
