/** What the console's own commands do, one function each. */
import type { JsonObject } from '../../src/qmp/message.js'
import { UsageError } from '../../src/util/errors.js'
import { readArguments } from './arguments.js'
import { isOwn, type CommandLine } from './command-line.js'
import { EventPatterns } from './event-patterns.js'
import { formatEvent, formatValue, inTable } from './format.js'
import { commandHelp, eventHelp, overview, ownHelp } from './help.js'
import { OWN_COMMANDS, type OwnCommand } from './own-commands.js'
import type { Result, Session } from './session.js'
import { plainText, splitWords, type Word } from './words.js'

type OwnLine = CommandLine & { kind: 'own' }
type Action = (session: Session, line: OwnLine, signal?: AbortSignal) => Result | Promise<Result>

/** @throws UsageError and what targets fail with */
export function runOwn(session: Session, line: OwnLine, signal?: AbortSignal): Result | Promise<Result> {
  return ACTIONS[line.name](session, line, signal)
}

const ACTIONS: Readonly<Record<OwnCommand, Action>> = {
  help,
  use,
  targets,
  reconnect,
  events,
  wait,
  hmp,
  begin,
  commit,
  cancel,
  set,
  unset,
  vars,
  print,
  history,
  output,
  exit: () => ({}),
}

/** The words as text; none may be key=value or JSON. */
function textsOf({ name, words }: OwnLine, most: number): string[] {
  const texts = words.map((word) => (word.key === undefined ? plainText(word) : word.raw) ?? word.raw)
  if (texts.length > most) throw new UsageError(`${name} takes less than that: ${usageOf(name)}`)
  return texts
}

const usageOf = (name: OwnCommand): string => `${name} ${OWN_COMMANDS[name].usage}`.trim()

const demand = (text: string | undefined, line: OwnLine): string => {
  if (text === undefined) throw new UsageError(`${line.name} wants more: ${usageOf(line.name)}`)
  return text
}

function help(session: Session, line: OwnLine): Result {
  const target = session.target(line.target)
  const [first, ...args] = line.words
  const name = first && (plainText(first) ?? first.raw)
  if (name === undefined) return told(overview(target.schema, target.name, session.columns()))
  if (isOwn(name)) return told(ownHelp(name))
  const command = target.schema?.commands.get(name)
  if (command !== undefined) return told(commandHelp(command, readGently(args, session, command.arguments)))
  const event = target.schema?.events.get(name)
  if (event !== undefined) return told(eventHelp(name, event.data, event.description))
  if (target.schema === undefined) throw new UsageError(`${target.name} does not tell what it can do`)
  const hint = session.suggest(name, target)
  throw new UsageError(`${target.name} has no command or event '${name}'${hint === undefined ? '' : `; ${hint}`}`)
}

const told = (text: string): Result => ({ value: text, text })

/** `help blockdev-add driver=` is a question that is not finished, not a mistake. */
function readGently(words: readonly Word[], session: Session, type: Parameters<typeof readArguments>[2]): JsonObject {
  return readArguments(
    words.filter(({ raw }) => !raw.endsWith('=')),
    session.variables,
    type,
  )
}

function use(session: Session, line: OwnLine): Result {
  const [name] = textsOf(line, 1)
  if (session.transaction !== undefined) throw new UsageError('a transaction is begun: commit or cancel it first')
  session.current = session.target(name ?? line.target)
  return {}
}

function targets(session: Session): Result {
  const value = session.targets.map(({ name, address, program, version, away }) => ({
    name,
    address,
    program,
    version,
    connected: away === undefined,
  }))
  const rows = session.targets.map(
    (target) =>
      [
        `${target === session.current ? '* ' : '  '}${target.name}`,
        `${target.address}: ${target.away === undefined ? target.description : `away, ${target.away}`}`,
      ] as const,
  )
  return { value, text: inTable(rows, { indent: '' }) }
}

async function reconnect(session: Session, line: OwnLine, signal?: AbortSignal): Promise<Result> {
  const [name] = textsOf(line, 1)
  const target = session.target(name ?? line.target)
  await target.reconnect(signal)
  const value = { name: target.name, program: target.program, version: target.version }
  return { target: target.name, value, text: `${target.name}: connected to ${target.description}` }
}

function events(session: Session, line: OwnLine): Result {
  const words = textsOf(line, Infinity)
  if (words.length > 0) {
    session.events = new EventPatterns(words)
    return {}
  }
  const shown = session.events.toString()
  return { value: shown, text: `events: ${shown}` }
}

async function wait(session: Session, line: OwnLine, signal?: AbortSignal): Promise<Result> {
  const [pattern, seconds] = textsOf(line, 2)
  const patterns = new EventPatterns([demand(pattern, line)])
  const target = session.target(line.target)
  const timeoutMs = seconds === undefined ? session.waitMs : Number(seconds) * 1000
  if (!(timeoutMs >= 0)) throw new UsageError(`'${seconds ?? ''}' is no number of seconds`)
  const event = await target.wait((each) => patterns.matches(target.name, each.event), timeoutMs, signal)
  const style = { colour: false, columns: session.columns() }
  return { target: target.name, value: event, text: formatEvent(target.name, event, style), keep: true }
}

async function hmp(session: Session, line: OwnLine, signal?: AbortSignal): Promise<Result> {
  const target = session.target(line.target)
  if (line.rest === '') throw new UsageError(`${usageOf('hmp')}: which one? hmp help shows them`)
  if (target.schema?.commands.has('human-monitor-command') === false)
    throw new UsageError(`${target.name} (${target.description}) has no human monitor`)
  const args = { 'command-line': line.rest }
  const value = await target.execute('human-monitor-command', args, signal && { signal })
  return { target: target.name, value, text: String(value), keep: true }
}

function begin(session: Session, line: OwnLine): Result {
  const target = session.target(line.target)
  if (session.transaction !== undefined) throw new UsageError('a transaction is begun already: commit or cancel it')
  if (target.schema?.commands.has('transaction') === false)
    throw new UsageError(`${target.name} (${target.description}) has no transactions`)
  session.transaction = { target, actions: [] }
  return {}
}

/** Whatever comes of it, it is not begun any more: what a refused one was made of stands in the history. */
async function commit(session: Session, line: OwnLine, signal?: AbortSignal): Promise<Result> {
  const { target, actions } = begun(session)
  const type = target.schema?.commands.get('transaction')?.arguments
  const more = readArguments(line.words, session.variables, type)
  if (actions.length === 0) throw new UsageError('nothing to commit: no action was collected (cancel ends it)')
  session.transaction = undefined
  const value = await target.execute('transaction', { ...more, actions }, signal && { signal })
  return { target: target.name, value, keep: true }
}

function cancel(session: Session): Result {
  begun(session)
  session.transaction = undefined
  return {}
}

function begun({ transaction }: Session): NonNullable<Session['transaction']> {
  if (transaction === undefined) throw new UsageError('no transaction is begun')
  return transaction
}

function set(session: Session, line: OwnLine): Result {
  const [, name, text = ''] = /^\$?([A-Za-z]\w*)\s*=\s*(.*)$/s.exec(line.rest) ?? []
  if (name === undefined) throw new UsageError(`${usageOf('set')}: a name is letters, digits and _`)
  session.variables.set(name, valueOf(text, session, line))
  return {}
}

/** One word, whatever it looks like: also `a=b` is a value here. */
function valueOf(text: string, session: Session, line: OwnLine): unknown {
  const [word, ...more] = splitWords(`_=${text}`).words
  if (word === undefined || text === '' || more.length > 0)
    throw new UsageError(`${usageOf(line.name)}: one value; text with spaces stands in quotes`)
  return session.variables.evaluate(word.value)
}

function unset(session: Session, line: OwnLine): Result {
  const name = demand(textsOf(line, 1)[0], line)
  if (!session.variables.delete(name)) throw new UsageError(`there is no variable $${name}`)
  return {}
}

function vars(session: Session): Result {
  const entries = session.variables.entries()
  const style = { colour: false, columns: session.columns() }
  const text = entries.map(([name, value]) => `$${name} = ${formatValue(value, style)}`).join('\n')
  return { value: Object.fromEntries(entries), text }
}

function print(session: Session, line: OwnLine): Result {
  return { value: valueOf(line.rest, session, line) }
}

function history(session: Session, line: OwnLine): Result {
  const numbered = session.history.lines
    .map((text, index) => [String(index + 1), text] as const)
    .filter(([, text]) => text.includes(line.rest))
  return { value: numbered.map(([, text]) => text), text: inTable(numbered) }
}

function output(session: Session, line: OwnLine): Result {
  const [form] = textsOf(line, 1)
  if (form !== 'pretty' && form !== 'json') throw new UsageError(usageOf('output'))
  session.output = form
  return {}
}
