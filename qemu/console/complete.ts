/**
 * What can stand at the cursor. A pure function of the line, the schema and the state of the session; names that only the server
 * knows come back as a question, whose answer the caller adds.
 */
import {
  membersOf,
  objectIn,
  typeAt,
  typeText,
  wordsOf,
  type ObjectType,
  type QmpSchema,
  type SchemaMember,
  type SchemaType,
} from '../../src/qmp/schema-model.js'
import { isObject, type JsonObject } from '../../src/qmp/message.js'
import { readArguments } from './arguments.js'
import { isOwn } from './command-line.js'
import { liveKindOf, type LiveKind } from './live-names.js'
import { OWN_COMMANDS, type OwnArgument } from './own-commands.js'
import { actionTypes } from './transaction.js'
import type { Variables } from './variables.js'
import { plainText, splitWords, type Word } from './words.js'

export interface Candidate {
  readonly text: string
  /** Typed behind it when it is the only one: a space, `=`, or nothing when it goes on. */
  readonly suffix: string
  /** Beside it in a list. */
  readonly hint?: string
}

export interface Completion {
  /** What is replaced: from here to the cursor. */
  readonly start: number
  readonly candidates: readonly Candidate[]
  /** To be asked for, and added to the candidates. */
  readonly live: { readonly target: string; readonly kind: LiveKind; readonly prefix: string } | undefined
}

export interface CompletionContext {
  readonly targets: readonly string[]
  /** The one in use. */
  readonly current: string
  schemaOf(target: string): QmpSchema | undefined
  readonly variables: Variables
  /** Lines are actions of a transaction. */
  readonly collecting: boolean
}

/** @param line up to the cursor */
export function complete(line: string, context: CompletionContext): Completion {
  const { words, unclosed } = splitWords(line)
  const last = words.at(-1)
  const current = last?.end === line.length ? last : emptyWord(line.length)
  const before = current === last ? words.slice(0, -1) : words
  const variable = completeVariable(line, context.variables)
  if (variable !== undefined) return variable
  if (unclosed === 'bracket' || (unclosed === 'quote' && current.value.kind === 'json')) return nothing(line.length)
  return completeWord(before, current, context)
}

const nothing = (start: number): Completion => ({ start, candidates: [], live: undefined })
const emptyWord = (at: number): Word => ({
  start: at,
  end: at,
  raw: '',
  key: undefined,
  valueStart: at,
  value: { kind: 'text', pieces: [], quoted: false },
})

/** Those that begin as typed. */
function choices(start: number, typed: string, candidates: readonly Candidate[]): Completion {
  return { start, candidates: candidates.filter(({ text }) => text.startsWith(typed)), live: undefined }
}

const plain = (texts: Iterable<string>, suffix = ' '): Candidate[] => [...texts].map((text) => ({ text, suffix }))

/** `$na`, `$name.mem` */
function completeVariable(line: string, variables: Variables): Completion | undefined {
  const [, path, typed] = /\$\{?((?:\w+(?:\.[\w-]+|\[\d+\])*\.)?)([\w-]*)$/.exec(line) ?? []
  if (path === undefined || typed === undefined) return undefined
  const start = line.length - typed.length
  const [name, ...steps] = path.split(/[.[\]]+/).filter((step) => step !== '')
  if (name === undefined) return choices(start, typed, plain(variables.names, ''))
  return choices(start, typed, plain(variables.membersOf([name, ...steps]), ''))
}

function completeWord(before: readonly Word[], current: Word, context: CompletionContext): Completion {
  const [first, ...more] = before
  if (first?.raw.startsWith('@') === true) {
    const target = first.raw.slice(1)
    return context.targets.includes(target) ? completeCommand(more, current, target, context) : nothing(current.end)
  }
  if (first === undefined && current.raw.startsWith('@'))
    return choices(current.start, current.raw, plain(context.targets.map((name) => `@${name}`)))
  return completeCommand(before, current, context.current, context)
}

function completeCommand(
  words: readonly Word[],
  current: Word,
  target: string,
  context: CompletionContext,
): Completion {
  const schema = context.schemaOf(target)
  const [first, ...args] = words
  const name = first && plainText(first)
  if (first === undefined) {
    const commands = context.collecting ? [...actionTypes(schema).keys()] : [...(schema?.commands.keys() ?? []), 'oob']
    return choices(current.start, current.raw, plain([...commands, ...Object.keys(OWN_COMMANDS)].sort()))
  }
  if (name === undefined) return nothing(current.end)
  if (name === 'oob') {
    const [command, ...behind] = args
    const commands = [...(schema?.commands.values() ?? [])].filter(({ oob }) => oob).map((each) => each.name)
    if (command === undefined) return choices(current.start, current.raw, plain(commands))
    return completeArgument(plainText(command) ?? '', behind, current, target, context)
  }
  if (isOwn(name)) return completeOwn(name, args, current, target, context)
  return completeArgument(name, args, current, target, context)
}

function completeOwn(
  name: keyof typeof OWN_COMMANDS,
  args: readonly Word[],
  current: Word,
  target: string,
  context: CompletionContext,
): Completion {
  const schema = context.schemaOf(target)
  const { start, raw } = current
  const kind: OwnArgument = OWN_COMMANDS[name].completes
  const only = args.length === 0
  const events = (): Candidate[] => plain(schema?.events.keys() ?? [])
  switch (kind) {
    case 'target':
      return choices(start, raw, only ? plain(context.targets) : [])
    case 'event':
      return choices(start, raw, only ? events() : [])
    case 'event-or-switch':
      return choices(start, raw, [...(only ? plain(['on', 'off']) : []), ...events()])
    case 'output':
      return choices(start, raw, only ? plain(['pretty', 'json']) : [])
    case 'variable':
      return choices(start, raw, only && name !== 'print' ? plain(context.variables.names) : [])
    case 'human-command':
      if (only) return { start, candidates: [], live: { target, kind: 'human-commands', prefix: raw } }
      return args.length === 1 && args[0]?.raw === 'info'
        ? { start, candidates: [], live: { target, kind: 'human-info', prefix: raw } }
        : nothing(current.end)
    case 'own-or-command': {
      const [command, ...behind] = args
      if (command !== undefined) return completeArgument(plainText(command) ?? '', behind, current, target, context)
      const names = [...(schema?.commands.keys() ?? []), ...Object.keys(OWN_COMMANDS), ...(schema?.events.keys() ?? [])]
      return choices(start, raw, plain(names))
    }
    case 'command':
      return completeArgument('transaction', args, current, target, { ...context, collecting: false })
    case 'nothing':
      return nothing(current.end)
  }
}

function completeArgument(
  command: string,
  others: readonly Word[],
  current: Word,
  target: string,
  context: CompletionContext,
): Completion {
  const schema = context.schemaOf(target)
  const type = context.collecting ? actionTypes(schema).get(command) : schema?.commands.get(command)?.arguments
  if (type === undefined) return nothing(current.end)
  const given = givenBy(others, context.variables, type)
  return current.key === undefined
    ? completeKey(type, given, current)
    : completeValue(command, typeAt(type, current.key.split('.'), given), current, target)
}

/** What the other words say, as far as they can be understood. */
function givenBy(words: readonly Word[], variables: Variables, type: ObjectType): JsonObject {
  try {
    return readArguments(words, variables, type)
  } catch {
    const understood = words.filter((word) => {
      try {
        readArguments([word], variables)
        return true
      } catch {
        return false
      }
    })
    try {
      return readArguments(understood, variables)
    } catch {
      return {}
    }
  }
}

function completeKey(type: ObjectType, given: JsonObject, current: Word): Completion {
  const path = current.raw.split('.')
  path.pop()
  const prefix = path.map((step) => `${step}.`).join('')
  const outer = typeAt(type, path, given)
  if (outer?.kind === 'array')
    return choices(current.start, current.raw, nextIndex(outer.of, prefix, valueAt(given, path)))
  const object = outer && objectIn(outer)
  if (object === undefined) return nothing(current.end)
  const present = valueAt(given, path)
  const here = isObject(present) ? present : {}
  const members = membersOf(object, here).filter(
    ({ name, type: inner }) => !Object.hasOwn(here, name) || isNested(inner),
  )
  return choices(
    current.start,
    current.raw,
    members.toSorted(byNeed).flatMap((member) => keyCandidates(member, prefix, Object.hasOwn(here, member.name))),
  )
}

/** What has to be given comes first. */
const byNeed = (one: SchemaMember, other: SchemaMember): number => Number(one.optional) - Number(other.optional)

const isNested = (type: SchemaType): boolean => objectIn(type) !== undefined || type.kind === 'array'

function keyCandidates(member: SchemaMember, prefix: string, isGiven: boolean): Candidate[] {
  const text = prefix + member.name
  const hint = hintOf(member)
  const { type } = member
  const dotted: Candidate[] = isNested(type) ? [{ text: `${text}.`, suffix: '', hint }] : []
  const whole: Candidate[] = type.kind === 'object' || isGiven ? [] : [{ text: `${text}=`, suffix: '', hint }]
  // Lists of names are written with commas; only lists of objects need their indexes.
  if (type.kind === 'array' && objectIn(type.of) === undefined) return whole
  return type.kind === 'array' ? dotted : [...whole, ...dotted]
}

export const hintOf = ({ type, optional, features }: SchemaMember): string =>
  [typeText(type), ...(optional ? [] : ['required']), ...features].join(', ')

function nextIndex(of: SchemaType, prefix: string, present: unknown): Candidate[] {
  const count = Array.isArray(present) ? present.length : 0
  const suffix = objectIn(of) === undefined ? '=' : '.'
  return Array.from({ length: count + 1 }, (_, index) => ({ text: `${prefix}${index}${suffix}`, suffix: '' }))
}

function valueAt(given: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (value, step) => (Array.isArray(value) ? value[Number(step)] : isObject(value) ? value[step] : undefined),
    given,
  )
}

function completeValue(command: string, type: SchemaType | undefined, current: Word, target: string): Completion {
  const typed = current.raw.slice(current.valueStart - current.start)
  // The last one of a list.
  const skipped = type?.kind === 'array' ? typed.lastIndexOf(',') + 1 : 0
  const item = type?.kind === 'array' ? type.of : type
  const start = current.valueStart + skipped
  const prefix = typed.slice(skipped)
  const key = current.key?.split('.').findLast((step) => !/^\d+$/.test(step)) ?? ''
  const words = item === undefined ? [] : wordsOf(item)
  const kind = words.length > 0 ? undefined : liveKindOf(command, key, item)
  return { ...choices(start, prefix, plain(words)), live: kind && { target, kind, prefix } }
}

/** With what the server answered. */
export function withLive(completion: Completion, names: readonly string[]): Completion {
  const { live, candidates } = completion
  if (live === undefined) return completion
  const found = [...new Set(names)].filter((name) => name.startsWith(live.prefix)).sort()
  // A QOM path goes on, but only with a slash.
  if (live.kind === 'qom' && found.length === 1 && found[0] === live.prefix) found[0] += '/'
  return {
    ...completion,
    live: undefined,
    candidates: [...candidates, ...plain(found, live.kind === 'qom' ? '' : ' ')],
  }
}

/** What all candidates begin with; longer than what is typed when Tab can type something. */
export function commonPrefix(candidates: readonly Candidate[]): string {
  const [first, ...more] = candidates.map(({ text }) => text)
  if (first === undefined) return ''
  let length = first.length
  for (const text of more) while (!text.startsWith(first.slice(0, length))) length--
  return first.slice(0, length)
}
