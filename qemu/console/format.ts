/** Values and events for people: JSON that can be typed in again, as dense as the width allows, in colours or without. */
import type { QmpEvent } from '../../src/qmp/message.js'
import { isObject } from '../../src/qmp/message.js'
import { textWidth } from './text-width.js'

export interface Style {
  readonly colour: boolean
  readonly columns: number
}

const RESET = '\u001b[0m'
export const COLOURS = {
  key: '\u001b[36m',
  string: '\u001b[32m',
  number: '\u001b[33m',
  word: '\u001b[35m',
  event: '\u001b[1;33m',
  error: '\u001b[31m',
  target: '\u001b[1m',
  dim: '\u001b[2m',
} as const

export const paint = (text: string, colour: keyof typeof COLOURS, style: Pick<Style, 'colour'>): string =>
  style.colour && text !== '' ? `${COLOURS[colour]}${text}${RESET}` : text

/** What a terminal would obey, or show the wrong way round, stands as an escape of JSON. */
const UNSAFE = /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g
const escaped = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`
export const quote = (text: string): string => JSON.stringify(text).replaceAll(UNSAFE, escaped)

/** Text of others that is shown as it is, with its lines. */
export const harmless = (text: string): string =>
  text.replaceAll(/[\u0000-\u0008\u000b-\u001f]/g, '').replaceAll(UNSAFE, escaped)

/** Several lines, without a newline at the end. */
export function formatValue(value: unknown, style: Style): string {
  return format(value, '', style)
}

function format(value: unknown, indent: string, style: Style): string {
  if (!Array.isArray(value) && !isObject(value)) return scalar(value, style)
  const flat = inline(value, { ...style, colour: false }, style.columns - indent.length)
  if (flat !== undefined) return style.colour ? (inline(value, style, Infinity) ?? flat) : flat
  const inner = `${indent}  `
  const list = Array.isArray(value)
  const items = list
    ? value.map((item: unknown) => inner + format(item, inner, style))
    : Object.entries(value).map(([key, item]) => `${inner}${keyText(key, style)}: ${format(item, inner, style)}`)
  return [list ? '[' : '{', items.join(',\n'), `${indent}${list ? ']' : '}'}`].join('\n')
}

/** On one line, or undefined when that is longer than `room`. */
function inline(value: unknown, style: Style, room: number): string | undefined {
  let left = room
  const parts: string[] = []
  for (const part of inlineParts(value, style)) {
    left -= style.colour ? 0 : textWidth(part)
    // The comma that may follow counts too.
    if (left < 1) return undefined
    parts.push(part)
  }
  return parts.join('')
}

/** Piece by piece, so that a megabyte is not put together to find out that it is too long for a line. */
function* inlineParts(value: unknown, style: Style): Generator<string> {
  if (Array.isArray(value)) {
    yield '['
    for (const [index, item] of value.entries()) {
      if (index > 0) yield ', '
      yield* inlineParts(item, style)
    }
    yield ']'
  } else if (isObject(value)) {
    const entries = Object.entries(value)
    yield entries.length === 0 ? '{' : '{ '
    for (const [index, [key, item]] of entries.entries()) {
      yield `${index > 0 ? ', ' : ''}${keyText(key, style)}: `
      yield* inlineParts(item, style)
    }
    yield entries.length === 0 ? '}' : ' }'
  } else yield scalar(value, style)
}

const keyText = (key: string, style: Style): string => paint(quote(key), 'key', style)

function scalar(value: unknown, style: Style): string {
  if (typeof value === 'string') return paint(quote(value), 'string', style)
  const text = JSON.stringify(value)
  return paint(text, typeof value === 'number' ? 'number' : 'word', style)
}

/** `12:03:55.120 qemu: BLOCK_JOB_READY device=j0 len=1048576` */
export function formatEvent(target: string, { event, data, timestamp }: QmpEvent, style: Style): string {
  const members = Object.entries(data).map(([key, value]) => `${harmless(key)}=${eventValue(value)}`)
  const head = `${paint(timeOf(timestamp), 'dim', style)} ${paint(target, 'target', style)}:`
  return [head, paint(harmless(event), 'event', style), ...members].join(' ')
}

const eventValue = (value: unknown): string =>
  typeof value === 'string' && /^[\w./:@+-]+$/.test(value)
    ? value
    : typeof value === 'string'
      ? quote(value)
      : quoteAll(value)

const quoteAll = (value: unknown): string => JSON.stringify(value).replaceAll(UNSAFE, escaped)

/** By the clock of this machine's time zone. */
function timeOf({ seconds, microseconds }: QmpEvent['timestamp']): string {
  if (seconds < 0) return '--:--:--.---'
  const time = new Date(seconds * 1000 + Math.floor(microseconds / 1000))
  const two = (number: number): string => String(number).padStart(2, '0')
  const clock = [time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(':')
  return `${clock}.${String(time.getMilliseconds()).padStart(3, '0')}`
}

/** Words in columns, as ls(1) does. */
export function inColumns(words: readonly string[], columns: number): string {
  const width = Math.max(...words.map(textWidth), 0) + 2
  const perRow = Math.max(1, Math.floor(columns / width))
  const rows = Math.ceil(words.length / perRow)
  return Array.from({ length: rows }, (_, row) =>
    words
      .filter((_, index) => index % rows === row)
      .map((word) => word + ' '.repeat(width - textWidth(word)))
      .join('')
      .trimEnd(),
  ).join('\n')
}

interface TableLook {
  readonly indent?: string
  /** Of the terminal; the second column is broken between words. */
  readonly columns?: number
}

/** Two columns, the first as wide as it has to be. */
export function inTable(
  rows: readonly (readonly [string, string])[],
  { indent = '  ', columns = Infinity }: TableLook = {},
): string {
  const width = Math.max(...rows.map(([first]) => textWidth(first)), 0)
  const margin = indent.length + width + 2
  return rows
    .map(([first, second]) => {
      const lines = wrapped(second, columns - margin)
      return `${indent}${first}${' '.repeat(width - textWidth(first))}  ${lines.join(`\n${' '.repeat(margin)}`)}`.trimEnd()
    })
    .join('\n')
}

/** Less room than that is none: the terminal breaks the lines. */
const WRAP_COLUMNS_MIN = 20

function wrapped(text: string, columns: number): string[] {
  if (columns < WRAP_COLUMNS_MIN || textWidth(text) <= columns) return [text]
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && textWidth(line) + 1 + textWidth(word) > columns) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}
