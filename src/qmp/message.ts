/**
 * The messages of QMP, read and written (QEMU's docs/interop/qmp-spec: "Server Greeting", "Issuing Commands",
 * "Commands Responses", "Asynchronous events"). Both roles share this file, so that they cannot disagree.
 *
 * What a server says is trusted to be QMP or the connection ends; what a client says is answered, however wrong.
 */

import { QmpProtocolError, QmpReplyError } from './error.js'
import { rawMembers } from './raw-members.js'

export type JsonObject = Readonly<Record<string, unknown>>

/** The shape is QEMU's own: tools look for the member `qemu`, whatever program answers. */
export interface QmpVersion {
  readonly qemu: { readonly major: number; readonly minor: number; readonly micro: number }
  readonly package: string
}

export interface QmpGreeting {
  readonly version: QmpVersion
  /** `oob` when the server can run commands out of band. */
  readonly capabilities: readonly string[]
}

/** When the event happened, by the server's clock. */
export interface QmpTimestamp {
  readonly seconds: number
  readonly microseconds: number
}

export interface QmpEvent {
  readonly event: string
  readonly data: JsonObject
  readonly timestamp: QmpTimestamp
}

/**
 * Stands in a stream of events where some were thrown away because nobody read them in time; `data.count` says how many.
 */
export const EVENTS_DROPPED = 'EVENTS_DROPPED'

/**
 * Stand in a stream of events where the connection to the server was lost, and where it was made again: events in between were
 * missed. `data.reason` says how it was lost.
 */
export const CONNECTION_LOST = 'CONNECTION_LOST'
export const CONNECTION_RESTORED = 'CONNECTION_RESTORED'

export type ServerMessage =
  | { readonly kind: 'greeting'; readonly greeting: QmpGreeting }
  | { readonly kind: 'return'; readonly id: unknown; readonly value: unknown }
  | { readonly kind: 'error'; readonly id: unknown; readonly errorClass: string; readonly desc: string }
  | { readonly kind: 'event'; readonly event: QmpEvent }

export interface QmpCommand {
  readonly name: string
  readonly arguments: JsonObject
  /** Any JSON value, sent back with the reply; undefined when the client gave none. */
  readonly id: unknown
}

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const END = '\r\n'

/** @throws QmpProtocolError when `text` is none of the four messages that a server sends */
export function parseServerMessage(text: string): ServerMessage {
  const message = parseObject(text)
  if ('event' in message) return { kind: 'event', event: parseEvent(message) }
  if ('return' in message) return { kind: 'return', id: message['id'], value: message['return'] }
  if ('error' in message) return parseError(message)
  if ('QMP' in message) return { kind: 'greeting', greeting: parseGreeting(message['QMP']) }
  throw new QmpProtocolError(`not a QMP message: ${excerpt(text)}`)
}

function parseObject(text: string): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new QmpProtocolError(`not JSON: ${excerpt(text)}`, { cause: error })
  }
  if (!isObject(value)) throw new QmpProtocolError(`not a JSON object: ${excerpt(text)}`)
  return value
}

function parseEvent(message: JsonObject): QmpEvent {
  const { event, data, timestamp } = message
  if (typeof event !== 'string') throw new QmpProtocolError("member 'event' is not a string")
  const { seconds, microseconds } = isObject(timestamp) ? timestamp : {}
  return {
    event,
    data: isObject(data) ? data : {},
    // QEMU sends -1 when its clock fails; a missing timestamp is treated alike.
    timestamp: { seconds: numberOr(seconds, -1), microseconds: numberOr(microseconds, -1) },
  }
}

function parseError(message: JsonObject): ServerMessage {
  const error = message['error']
  if (!isObject(error)) throw new QmpProtocolError("member 'error' is not an object")
  const { class: errorClass, desc } = error
  return {
    kind: 'error',
    id: message['id'],
    errorClass: typeof errorClass === 'string' ? errorClass : 'GenericError',
    desc: typeof desc === 'string' ? desc : 'no description',
  }
}

function parseGreeting(value: unknown): QmpGreeting {
  if (!isObject(value) || !isObject(value['version'])) throw new QmpProtocolError("greeting without member 'version'")
  const { qemu, package: name } = value['version']
  const { major, minor, micro } = isObject(qemu) ? qemu : {}
  const capabilities = value['capabilities']
  return {
    version: {
      qemu: { major: numberOr(major, 0), minor: numberOr(minor, 0), micro: numberOr(micro, 0) },
      package: typeof name === 'string' ? name : '',
    },
    capabilities: Array.isArray(capabilities) ? capabilities.filter((name) => typeof name === 'string') : [],
  }
}

const numberOr = (value: unknown, otherwise: number): number => (typeof value === 'number' ? value : otherwise)

const EXCERPT_LENGTH = 80
const excerpt = (text: string): string =>
  text.length <= EXCERPT_LENGTH ? text : `${text.slice(0, EXCERPT_LENGTH)}... (${text.length} characters)`

/**
 * The `id` of a command that may be wrong in every other way: even then the reply should carry it.
 * @throws QmpReplyError when `text` is not a JSON object
 */
export function parseRequest(text: string): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new QmpReplyError(`JSON parse error, ${error instanceof Error ? error.message : String(error)}`)
  }
  if (!isObject(value)) throw new QmpReplyError('QMP input must be a JSON object')
  return value
}

/** @throws QmpReplyError, worded as QEMU does, when the members are not those of a command */
export function parseCommand(request: JsonObject, key: 'execute' | 'exec-oob' = 'execute'): QmpCommand {
  const { [key]: name, arguments: given, id } = request
  for (const member of Object.keys(request)) {
    if (![key, 'arguments', 'id'].includes(member)) {
      throw new QmpReplyError(`QMP input member '${member}' is unexpected`)
    }
  }
  if (name === undefined) throw new QmpReplyError("QMP input lacks member 'execute'")
  if (typeof name !== 'string') throw new QmpReplyError(`QMP input member '${key}' must be a string`)
  if (given !== undefined && !isObject(given)) {
    throw new QmpReplyError("QMP input member 'arguments' must be an object")
  }
  return { name, arguments: given ?? {}, id }
}

export const formatGreeting = (greeting: QmpGreeting): string => JSON.stringify({ QMP: greeting }) + END

/** A command whose parts are JSON already, or `undefined`. */
export const formatRawCommand = (
  key: 'execute' | 'exec-oob',
  name: string,
  args: string | undefined,
  id: number,
): string => `{"${key}": ${name}${args === undefined ? '' : `, "arguments": ${args}`}, "id": ${id}}${END}`

/** The reply `text` of a server, with the client's `id`, JSON as well, instead of the one it has. */
export function formatRawReply(text: string, id: string | undefined): string {
  const members = [...rawMembers(text)].filter(([name]) => name !== 'id')
  if (id !== undefined) members.push(['id', id])
  return `{${members.map(([name, value]) => `${JSON.stringify(name)}: ${value}`).join(', ')}}${END}`
}

/** `key` is `execute`, or `exec-oob` for out-of-band execution. */
export const formatCommand = (
  key: 'execute' | 'exec-oob',
  name: string,
  args: JsonObject | undefined,
  id: unknown,
): string => JSON.stringify({ [key]: name, arguments: args, id }) + END

/** With the `id`, JSON as well, of the command that is refused. */
export const formatRawError = (error: QmpReplyError, id: string | undefined): string =>
  formatRawReply(formatError(error), id)

export const formatReturn = (value: unknown, id: unknown): string => JSON.stringify({ return: value ?? {}, id }) + END

export const formatError = (error: QmpReplyError, id?: unknown): string =>
  JSON.stringify({ id, error: { class: error.errorClass, desc: error.desc } }) + END

export const formatEvent = (event: QmpEvent): string => JSON.stringify(event) + END

export function timestamp(nowMs: number): QmpTimestamp {
  const seconds = Math.floor(nowMs / 1000)
  return { seconds, microseconds: Math.floor((nowMs - seconds * 1000) * 1000) }
}
