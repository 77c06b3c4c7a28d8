/** One line per message on standard error: `2026-01-31T12:00:00.000Z warn  text`. Standard output stays free for results. */

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
export const KEPT_LEVELS = ['info', 'warn', 'error'] as const
export type KeptLevel = (typeof KEPT_LEVELS)[number]
const LEVELS: readonly LogLevel[] = ['debug', ...KEPT_LEVELS]

export interface Log {
  debug(message: string): void
  info(message: string): void
  warn(message: string): void
  error(message: string): void
}

/** A log whose lines at or above `least` go to `write`. */
export function createLog(least: LogLevel, write: (line: string) => void): Log {
  const at = (level: LogLevel) => (message: string) => {
    if (LEVELS.indexOf(level) < LEVELS.indexOf(least)) return
    write(`${new Date().toISOString()} ${level.padEnd(5)} ${message}\n`)
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

/** What `createLog` has written. @returns undefined for any other line */
export function parseLogLine(line: string): { time: string; level: LogLevel; message: string } | undefined {
  const [, time = '', level = '', message = ''] = /^(\d{4}-\d\d-\d\dT[\d:.]+Z) (\w+) +(.*)$/.exec(line) ?? []
  const known = LEVELS.find((it) => it === level)
  return known && { time, level: known, message }
}

/** A log whose level may change while it is in use. */
export class AdjustableLog implements Log {
  least: LogLevel
  readonly #write: (line: string) => void

  constructor(least: LogLevel, write: (line: string) => void = toStderr) {
    this.least = least
    this.#write = write
  }

  readonly debug = this.#at('debug')
  readonly info = this.#at('info')
  readonly warn = this.#at('warn')
  readonly error = this.#at('error')

  #at(level: LogLevel): (message: string) => void {
    return (message) => {
      createLog(this.least, this.#write)[level](message)
    }
  }
}

export const stderrLog = (least: LogLevel = 'info'): Log => createLog(least, toStderr)

function toStderr(line: string): void {
  process.stderr.write(line)
}

/** A log that also passes on what is worth keeping: everything but the debug lines. */
export function teeLog(log: Log, keep: (level: KeptLevel, message: string) => void): Log {
  const at = (level: KeptLevel) => (message: string) => {
    log[level](message)
    keep(level, message)
  }
  return {
    debug: (message) => {
      log.debug(message)
    },
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
  }
}

const ignore = (): void => undefined
export const silentLog: Log = { debug: ignore, info: ignore, warn: ignore, error: ignore }
