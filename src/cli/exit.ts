/** Exit codes, and how whatever was thrown becomes one line on standard error and one of them. */
import { messageOf, RefusedError, UsageError } from '../util/errors.js'

/** Documented in the help of the program; scripts rely on them. */
export const EXIT = { done: 0, failed: 1, usage: 2, refused: 3 } as const

export function exitCodeOf(error: unknown): number {
  if (error instanceof RefusedError) return EXIT.refused
  if (error instanceof UsageError) return EXIT.usage
  return EXIT.failed
}

/** Says what went wrong and sets the exit code of the process. */
export function reportError(error: unknown): void {
  process.stderr.write(`nbd-remap: ${messageOf(error)}\n`)
  if (process.env['NBD_REMAP_DEBUG'] && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`)
  process.exitCode = exitCodeOf(error)
}

/** commander's own message as a sentence like all others. */
export function usageMessage(text: string): string {
  const sentence = text
    .replace(/^error: /, '')
    .trim()
    .replaceAll(/\s*\n\s*/g, ' ')
    .replace(/\.$/, '')
  return `nbd-remap: ${sentence} (add --help for help)\n`
}

/**
 * `nbd-remap ... | head` closes standard output early, and a log that is piped elsewhere may lose its reader: neither is
 * an error, and a server goes on.
 */
export function surviveClosedPipes(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
    })
  }
}
