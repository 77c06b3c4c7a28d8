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
  EEXIST: 'there is such a file already, and none is overwritten',
  ENAMETOOLONG: 'its name is too long',
  ELOOP: 'its links lead nowhere',
}

/** Why a file could not be used, in a sentence for people; of what is no error of a file system call, its message. */
export const fileProblem = (thrown: unknown): string =>
  FILE_PROBLEMS[(thrown as NodeJS.ErrnoException | null)?.code ?? ''] ?? messageOf(thrown)

/** As `fileProblem`, of a file that was to be made or written. */
export const writingProblem = (thrown: unknown): string =>
  (thrown as NodeJS.ErrnoException | null)?.code === 'ENOENT' ? 'its folder does not exist' : fileProblem(thrown)

const CONNECTION_PROBLEMS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ENOENT: 'the socket does not exist',
  ENOTDIR: 'the socket does not exist: a part of its path is no folder',
  ENOTSOCK: 'the path is not a socket',
  EACCES: 'permission denied',
  ENOTFOUND: 'host not found',
  EAI_AGAIN: 'the name service did not answer',
  EHOSTUNREACH: 'no route to host',
  ENETUNREACH: 'network unreachable',
  ETIMEDOUT: 'the host did not answer',
  ECONNRESET: 'connection reset',
  EPIPE: 'the server closed the connection',
}

/** Why there is no connection, or none any more, for the end of a sentence; of what is no error of a system call, its message. */
export function connectionProblem(thrown: unknown): string {
  const code = (thrown as NodeJS.ErrnoException | null)?.code ?? ''
  const message = messageOf(thrown)
  return CONNECTION_PROBLEMS[code] ?? (message === '' ? code : message)
}
