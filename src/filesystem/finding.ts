/** What was found out about some sectors. */

/**
 * - `file`: content of a file, or the target of a link
 * - `directory`: names of files
 * - `inode`: all that is known of some files but their names
 * - `map`: where the content of a file stands
 * - `attributes`: extended attributes of files, such as access control lists
 * - `unused`: reserved for a file, and holds nothing of it
 * - `metadata`, `journal`: of the file system itself
 * - `free`: of no file
 * - `unclaimed`: in use, and of no file that was found
 * - `outside`: in no partition, or behind the end of a file system
 * - `unknown`: in something of which the files are not looked up
 */
export const KINDS = [
  'file',
  'directory',
  'inode',
  'map',
  'attributes',
  'metadata',
  'journal',
  'unused',
  'free',
  'outside',
  'unclaimed',
  'unknown',
] as const
export type Kind = (typeof KINDS)[number]

/** Files are damaged by the loss of what is of one of these kinds. */
export const DAMAGING: readonly Kind[] = ['file', 'directory', 'inode', 'map', 'attributes']

export interface Finding {
  /** In bytes, in what was looked at. */
  readonly start: number
  readonly end: number
  readonly kind: Kind
  /** For people, when there is more to say. */
  readonly detail?: string
  /** Whose they are. */
  readonly inodes?: readonly number[]
  /** Where in the file `start` is, in bytes; of a `map`, from where on it tells. */
  readonly fileOffset?: number
}

/** A path as it is on disk. */
export interface Path {
  /** From the root of its file system on. */
  readonly bytes: Buffer
  /** It begins at the root: nothing above it is missing. */
  readonly isComplete: boolean
}

export interface FoundFile {
  readonly inode: number
  readonly type: 'file' | 'directory' | 'symlink' | 'other'
  /** In bytes; `undefined`: its inode cannot be read. */
  readonly size: number | undefined
  readonly paths: readonly Path[]
  /** It has so many more names. */
  readonly morePaths: number
  /** It had its last name removed, while it was open. */
  readonly isDeleted: boolean
}

export interface FileSystem {
  /** As blkid(8) names it. */
  readonly type: string
  readonly label: string
  readonly uuid: string
  readonly findings: readonly Finding[]
  readonly files: ReadonlyMap<number, FoundFile>
  /** What makes the answer less certain than it looks. */
  readonly notes: readonly string[]
}

/** Called with how far it is. */
export type OnProgress = (what: string, done: number, total: number) => void
