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

const FILE_PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'there is no such file: a part of its path is no folder',
  EISDIR: 'it is a folder, not a file',
  EACCES: 'permission denied',
  EROFS: 'the file system is read-only',
  ENOSPC: 'there is no space left',
}

/** Why a file could not be used, in a sentence for people; of what is no error of a file system call, its message. */
export const fileProblem = (thrown: unknown): string =>
  FILE_PROBLEMS[(thrown as NodeJS.ErrnoException | null)?.code ?? ''] ?? messageOf(thrown)
