/** Errors that say which exit code they end a command with. Every other error ends it with 1. */

/** The disks are not what they should be, or another server holds them (promises P5 and P6). Exit code 3. */
export class RefusedError extends Error {
  override name = 'RefusedError'
}

/** The command line asks for something impossible. Exit code 2. */
export class UsageError extends Error {
  override name = 'UsageError'
}

/** The message of anything that was thrown. */
export const messageOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown))
