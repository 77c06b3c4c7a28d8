/**
 * What a command takes and returns, described once: from it come the compiler's types for the handler, the check of what
 * a client sends, and the introspection. Refusals name the argument and are worded as QEMU's (`QAPI` visitors).
 *
 * Integers beyond 2^53 are refused, since JSON.parse has rounded them already: a wrong sector is worse than an error.
 */

import { QmpReplyError } from './error.js'
import { isObject, type JsonObject } from './message.js'

export type QmpType =
  | { readonly kind: 'int'; readonly min?: number; readonly max?: number }
  /** A number of bytes, or of other things that cannot be negative. */
  | { readonly kind: 'size' }
  | { readonly kind: 'number' }
  | { readonly kind: 'bool' }
  | { readonly kind: 'str' }
  | { readonly kind: 'enum'; readonly values: readonly string[] }
  | { readonly kind: 'array'; readonly of: QmpType; readonly itemsMax?: number }
  | { readonly kind: 'object'; readonly members: QmpMembers }
  /** Any JSON value: not checked. */
  | { readonly kind: 'any' }

export type QmpMember = QmpType & { readonly optional?: true; readonly description?: string }
export type QmpMembers = Readonly<Record<string, QmpMember>>
export type NoMembers = Readonly<Record<string, never>>

/** The TypeScript type of a described value. */
export type ValueOf<T> = T extends { kind: 'int' | 'size' | 'number' }
  ? number
  : T extends { kind: 'bool' }
    ? boolean
    : T extends { kind: 'str' }
      ? string
      : T extends { kind: 'enum'; values: readonly (infer Value)[] }
        ? Value
        : T extends { kind: 'array'; of: infer Item }
          ? readonly ValueOf<Item>[]
          : T extends { kind: 'object'; members: infer Members }
            ? ArgumentsOf<Members>
            : unknown

type OptionalNames<Members> = {
  [Name in keyof Members]: Members[Name] extends { optional: true } ? Name : never
}[keyof Members]

/** The TypeScript type of checked arguments: optional ones may be missing. */
export type ArgumentsOf<Members> = {
  readonly [Name in Exclude<keyof Members, OptionalNames<Members>>]: ValueOf<Members[Name]>
} & { readonly [Name in OptionalNames<Members>]?: ValueOf<Members[Name]> }

/** Which connection a command came from. */
export interface CommandContext {
  readonly clientId: number
}

export interface CommandDefinition<Members extends QmpMembers, Returns extends QmpType | undefined> {
  /** One sentence, for help. */
  readonly description: string
  readonly arguments?: Members
  /** Nothing but `{}` when not given. */
  readonly returns?: Returns
  /** @throws QmpReplyError to choose the words and the class of the error; the message of any other error is sent too */
  handler(
    args: ArgumentsOf<Members>,
    context: CommandContext,
  ): Returns extends QmpType ? ValueOf<Returns> | Promise<ValueOf<Returns>> : void | Promise<void>
}

/** A row of the command table, whatever its types were. */
export interface Command {
  readonly description: string
  readonly arguments: QmpMembers
  readonly returns: QmpType | undefined
  /** @throws QmpReplyError when the arguments are not as described */
  run(given: JsonObject, context: CommandContext): unknown
}

export interface EventDefinition {
  readonly description: string
  readonly data?: QmpMembers
}

export type CommandTable = ReadonlyMap<string, Command> | Readonly<Record<string, Command>>
export type EventTable = Readonly<Record<string, EventDefinition>>

/** A row for the table: `'remap-add': command({ description, arguments, returns, handler })`. */
export function command<
  const Members extends QmpMembers = NoMembers,
  const Returns extends QmpType | undefined = undefined,
>(definition: CommandDefinition<Members, Returns>): Command {
  const members: QmpMembers = definition.arguments ?? {}
  return {
    description: definition.description,
    arguments: members,
    returns: definition.returns,
    run: (given, context) => {
      checkMembers(members, given)
      return definition.handler(given as ArgumentsOf<Members>, context)
    },
  }
}

/** @throws QmpReplyError for a member that is missing, unexpected, or of the wrong type */
export function checkMembers(members: QmpMembers, given: JsonObject, prefix = ''): void {
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(members, name)) throw new QmpReplyError(`Parameter '${prefix}${abbreviate(name)}' is unexpected`)
  }
  for (const [name, member] of Object.entries(members)) {
    if (Object.hasOwn(given, name)) checkValue(member, given[name], prefix + name)
    else if (member.optional !== true) throw new QmpReplyError(`Parameter '${prefix}${name}' is missing`)
  }
}

const EXPECTED = {
  int: 'integer',
  size: 'integer',
  number: 'number',
  bool: 'boolean',
  str: 'string',
  enum: 'string',
  array: 'array',
  object: 'object',
  any: 'value',
} as const satisfies Record<QmpType['kind'], string>

function checkValue(type: QmpType, value: unknown, name: string): void {
  if (!hasKind(type.kind, value)) {
    throw new QmpReplyError(`Invalid parameter type for '${name}', expected: ${EXPECTED[type.kind]}`)
  }
  switch (type.kind) {
    case 'int':
      checkRange(value as number, type.min, type.max, name)
      break
    case 'size':
      checkRange(value as number, 0, undefined, name)
      break
    case 'enum':
      if (type.values.includes(value as string)) break
      throw new QmpReplyError(
        `Parameter '${name}' does not accept value '${abbreviate(value as string)}' (known are ${type.values.join(', ')})`,
      )
    case 'array':
      checkItems(type.of, value as unknown[], type.itemsMax, name)
      break
    case 'object':
      checkMembers(type.members, value as JsonObject, `${name}.`)
  }
}

function hasKind(kind: QmpType['kind'], value: unknown): boolean {
  switch (kind) {
    case 'int':
    case 'size':
      return Number.isSafeInteger(value)
    case 'number':
      return typeof value === 'number'
    case 'bool':
      return typeof value === 'boolean'
    case 'str':
    case 'enum':
      return typeof value === 'string'
    case 'array':
      return Array.isArray(value)
    case 'object':
      return isObject(value)
    case 'any':
      return true
  }
}

function checkRange(value: number, min = -Infinity, max = Infinity, name: string): void {
  if (value >= min && value <= max) return
  const range =
    max === Infinity ? `of at least ${min}` : min === -Infinity ? `of at most ${max}` : `from ${min} to ${max}`
  throw new QmpReplyError(`Parameter '${name}' expects a value ${range}`)
}

function checkItems(type: QmpType, items: readonly unknown[], itemsMax = Infinity, name: string): void {
  if (items.length > itemsMax) throw new QmpReplyError(`Parameter '${name}' expects at most ${itemsMax} items`)
  for (const [index, item] of items.entries()) checkValue(type, item, `${name}[${index}]`)
}

/** A refusal must not be as long as what it refuses. */
const ABBREVIATION_LENGTH = 64
export const abbreviate = (text: string): string =>
  text.length <= ABBREVIATION_LENGTH ? text : `${text.slice(0, ABBREVIATION_LENGTH)}...`
