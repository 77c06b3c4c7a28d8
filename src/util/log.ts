/** One line per message on standard error: `2026-01-31T12:00:00.000Z warn  text`. Standard output stays free for results. */

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error']

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

export const stderrLog = (least: LogLevel = 'info'): Log => createLog(least, (line) => process.stderr.write(line))

const ignore = (): void => undefined
export const silentLog: Log = { debug: ignore, info: ignore, warn: ignore, error: ignore }
