/**
 * What a line asks for, before anything is looked up: one of the console's own commands, a QMP command, or a QMP message in JSON.
 * Own commands come first; `@name` sends one line to another target.
 */
import { isObject } from '../../src/qmp/message.js'
import { messageOf, UsageError } from '../../src/util/errors.js'
import { OWN_COMMANDS, type OwnCommand } from './own-commands.js'
import { plainText, splitWords, type Piece, type Unclosed, type Word } from './words.js'

interface Addressed {
  /** As typed after `@`; undefined: the one in use. */
  readonly target: string | undefined
}

export type CommandLine =
  | { readonly kind: 'nothing' }
  | (Addressed & {
      readonly kind: 'own'
      readonly name: OwnCommand
      readonly words: readonly Word[]
      readonly rest: string
    })
  | (Addressed & {
      readonly kind: 'qmp'
      readonly command: string
      readonly words: readonly Word[]
      readonly oob: boolean
    })
  /** A message as it goes over the wire; it is an object whose `execute` or `exec-oob` is `command`. */
  | (Addressed & {
      readonly kind: 'message'
      readonly command: string
      readonly pieces: readonly Piece[]
      readonly oob: boolean
    })

/** @throws UsageError when it cannot be a command */
export function readCommandLine(line: string): CommandLine {
  const { words: all, unclosed } = splitWords(line)
  const { target, words } = splitTarget(all)
  const [first, ...more] = words
  if (first === undefined) {
    return target === undefined ? { kind: 'nothing' } : { kind: 'own', target, name: 'use', words: [], rest: '' }
  }
  const name = plainText(first)
  if (name !== undefined && first.key === undefined && isOwn(name)) {
    // What a human monitor gets is its own language, quotes and all.
    if (name !== 'hmp') demandClosed(unclosed)
    return { kind: 'own', target, name, words: more, rest: line.slice(first.end).trim() }
  }
  demandClosed(unclosed)
  if (first.value.kind === 'json' && first.key === undefined) return readMessage(first, more, target)
  if (name === undefined || first.key !== undefined)
    throw new UsageError(`'${first.raw}' is no command: a line begins with the name of one (help shows them)`)
  if (name === 'oob') return outOfBand(target, more)
  return { kind: 'qmp', target, command: name, words: more, oob: false }
}

/** Undefined when the line is whole; a line of a script, or of several lines, goes on in the next one. */
export function unclosedIn(line: string): Unclosed | undefined {
  const { words, unclosed } = splitWords(line)
  const [first] = splitTarget(words).words
  return first !== undefined && plainText(first) === 'hmp' ? undefined : unclosed
}

export const isOwn = (name: string): name is OwnCommand => Object.hasOwn(OWN_COMMANDS, name)

function splitTarget(words: readonly Word[]): { target: string | undefined; words: readonly Word[] } {
  const [first, ...more] = words
  return first?.raw.startsWith('@') === true
    ? { target: first.raw.slice(1), words: more }
    : { target: undefined, words }
}

function outOfBand(target: string | undefined, [first, ...words]: readonly Word[]): CommandLine {
  const command = first && plainText(first)
  if (command === undefined) throw new UsageError('oob COMMAND ...: which command shall overtake the others?')
  return { kind: 'qmp', target, command, words, oob: true }
}

function demandClosed(unclosed: Unclosed | undefined): void {
  if (unclosed !== undefined) throw new UsageError(`the line ends within a ${unclosed} that is not closed`)
}

/**
 * The message itself, or the one in a line of a recording that `nbd-remap qmp-share` made.
 * @returns undefined for what servers said, and for the greeting's answer: the console has negotiated
 */
export function commandIn(line: unknown): unknown {
  if (!isObject(line) || !('time' in line)) return line
  const { direction, message } = line
  return direction === 'command' && !(isObject(message) && message['execute'] === 'qmp_capabilities')
    ? message
    : undefined
}

/** The ids of others do not matter: replies are matched by ours. */
function readMessage(first: Word, more: readonly Word[], target: string | undefined): CommandLine {
  const { pieces } = first.value
  const text = pieces.map((piece) => (piece.kind === 'text' ? piece.text : 'null')).join('')
  let message: unknown
  try {
    message = JSON.parse(text)
  } catch (error) {
    throw new UsageError(`this is not JSON: ${first.raw} (${messageOf(error)})`)
  }
  const sent = commandIn(message)
  if (sent === undefined) return { kind: 'nothing' }
  const { execute, 'exec-oob': oob } = isObject(sent) ? sent : {}
  const command = execute ?? oob
  if (typeof command !== 'string' || more.length > 0)
    throw new UsageError('a line of JSON is {"execute": COMMAND, "arguments": {...}}')
  return { kind: 'message', target, command, pieces, oob: execute === undefined }
}
