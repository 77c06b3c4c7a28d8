/**
 * The terminal as a screen of its own: an alternate buffer without a cursor, keys as they are pressed. Whatever ends the
 * program gives the terminal back as it was.
 */
import { constants } from 'node:os'
import type { ReadStream, WriteStream } from 'node:tty'
import { UsageError } from '../../util/errors.js'

const ENTER = '\u001b[?1049h\u001b[?25l'
const LEAVE = '\u001b[?25h\u001b[?1049l'
const HOME = '\u001b[H'
const TO_LINE_END = '\u001b[K'
const TO_SCREEN_END = '\u001b[J'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

export interface Size {
  readonly columns: number
  readonly rows: number
}

/** `bold` lines stand out. */
export interface Line {
  readonly text: string
  readonly bold?: boolean
}

export class Screen {
  /** Resolves with the exit code when the user, or a signal, wants an end. */
  readonly ended: Promise<number>
  readonly #input: ReadStream
  readonly #output: WriteStream
  readonly #onResize: () => void
  #end: (exitCode: number) => void = () => undefined
  #isOpen = true

  /** @throws UsageError without a terminal */
  static demand(): void {
    if (!process.stdin.isTTY || !process.stdout.isTTY)
      throw new UsageError('top needs a terminal; nbd-remap status --watch 1 prints to anything')
  }

  constructor(onResize: () => void) {
    const { stdin, stdout } = process
    this.#input = stdin
    this.#output = stdout
    this.#onResize = onResize
    this.ended = new Promise((resolve) => {
      this.#end = resolve
    })
    for (const signal of SIGNALS) process.on(signal, this.#onSignal)
    process.once('exit', this.#restore)
    stdout.on('resize', onResize)
    stdin.setRawMode(true).on('data', this.#onKeys).once('end', this.#onHangUp).once('error', this.#onHangUp)
    stdout.write(ENTER)
  }

  get size(): Size {
    return { columns: this.#output.columns || 80, rows: this.#output.rows || 24 }
  }

  /** Replaces what is there, without an empty screen in between. Lines that are too long or too many are cut. */
  draw(lines: readonly Line[]): void {
    // What is still under way when the user has gone shows nothing any more.
    if (!this.#isOpen) return
    const { columns, rows } = this.size
    const drawn = lines.slice(0, rows).map(({ text, bold }) => {
      const shown = printable(text).slice(0, columns)
      return `${bold ? `\u001b[1m${shown}\u001b[0m` : shown}${TO_LINE_END}`
    })
    this.#output.write(`${HOME}${drawn.join('\r\n')}${TO_SCREEN_END}`)
  }

  close(): void {
    for (const signal of SIGNALS) process.off(signal, this.#onSignal)
    process.off('exit', this.#restore)
    this.#output.off('resize', this.#onResize)
    this.#input.off('data', this.#onKeys).pause()
    this.#restore()
  }

  readonly #restore = (): void => {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#output.write(LEAVE)
    this.#input.setRawMode(false)
  }

  readonly #onSignal = (signal: (typeof SIGNALS)[number]): void => {
    this.#end(128 + constants.signals[signal])
  }

  /** The terminal is gone. */
  readonly #onHangUp = (): void => {
    this.#end(128 + constants.signals.SIGHUP)
  }

  /** In raw mode Ctrl-C is a key. */
  readonly #onKeys = (keys: Buffer): void => {
    const text = keys.toString()
    if (text.includes('\u0003')) this.#end(128 + constants.signals.SIGINT)
    else if (/[qQ]/.test(text)) this.#end(0)
  }
}

/** Names come from elsewhere, and must not steer the terminal. */
const printable = (text: string): string => text.replaceAll(/[\p{Cc}\p{Cf}]/gu, '?')
