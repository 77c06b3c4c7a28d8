/** What a session says, and its two forms: for people, and as JSON lines for programs. */
import type { QmpEvent } from '../../src/qmp/message.js'
import { QmpCommandError } from '../../src/qmp/error.js'
import { messageOf } from '../../src/util/errors.js'
import { formatEvent, formatValue, harmless, paint, type Style } from './format.js'

export interface Output {
  /** @param text what people see instead of the value */
  result(result: {
    readonly target?: string
    readonly command: string
    readonly value: unknown
    readonly text?: string
  }): void
  failure(failure: { readonly target?: string; readonly command: string; readonly error: unknown }): void
  event(target: string, event: QmpEvent): void
  /** What nobody asked for but should know. */
  note(text: string): void
}

/** Takes whole lines, without a newline at the end of the last one. */
export type Print = (text: string) => void

export class PrettyOutput implements Output {
  readonly #print: Print
  readonly #complain: Print
  readonly #style: () => Style

  /** @param complain for failures and notes */
  constructor(print: Print, complain: Print, style: () => Style) {
    this.#print = print
    this.#complain = complain
    this.#style = style
  }

  result({ value, text }: Parameters<Output['result']>[0]): void {
    const shown = text === undefined ? formatValue(value, this.#style()) : harmless(text).trimEnd()
    if (shown !== '') this.#print(shown)
  }

  failure({ target, error }: Parameters<Output['failure']>[0]): void {
    const where = target === undefined ? '' : `${target}: `
    this.#complain(paint(`${where}${harmless(messageOf(error))}`, 'error', this.#style()))
  }

  event(target: string, event: QmpEvent): void {
    this.#print(formatEvent(target, event, this.#style()))
  }

  note(text: string): void {
    this.#complain(paint(harmless(text), 'dim', this.#style()))
  }
}

export class JsonOutput implements Output {
  readonly #print: Print
  readonly #complain: Print

  constructor(print: Print, complain: Print) {
    this.#print = print
    this.#complain = complain
  }

  result({ target, command, value }: Parameters<Output['result']>[0]): void {
    this.#print(JSON.stringify({ target, command, return: value }))
  }

  /** `class` is that of the server, or the name of what became of the connection or the line. */
  failure({ target, command, error }: Parameters<Output['failure']>[0]): void {
    const desc = error instanceof QmpCommandError ? error.desc : messageOf(error)
    const kind = error instanceof QmpCommandError ? error.errorClass : error instanceof Error ? error.name : 'Error'
    this.#print(JSON.stringify({ target, command, error: { class: kind, desc } }))
  }

  event(target: string, event: QmpEvent): void {
    this.#print(JSON.stringify({ target, ...event }))
  }

  note(text: string): void {
    this.#complain(harmless(text))
  }
}
