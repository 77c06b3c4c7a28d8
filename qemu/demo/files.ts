/** Files with known checksums in a guest: written, and checked after the guest's page cache was dropped. */
import type { Guest } from '../guest.js'

export interface KnownFile {
  readonly path: string
  /** Of what was to be written, taken on the way to the disk. */
  readonly sha256: string
}

export interface FileCheck {
  readonly intact: number
  /** Wrong checksum, or it could not be read. */
  readonly damaged: readonly string[]
}

/** Random bytes into one file, and their checksum on standard output. The status is that of all three programs. */
const writeCommand = (path: string, sizeKiB: number): string =>
  `dd if=/dev/urandom bs=64k count=${sizeKiB / 64} 2>/dev/null | tee ${path} | sha256sum`

/** Writes files of random content. @throws GuestCommandError when one cannot be written */
export async function writeFiles(guest: Guest, paths: readonly string[], sizeKiB: number): Promise<KnownFile[]> {
  const commands = paths.map((path) => `${writeCommand(path, sizeKiB)} || exit 1`)
  const output = await guest.check(['set -o pipefail', ...commands].join('\n'))
  const checksums = output.split('\n').map((line) => line.split(' ')[0] ?? '')
  return paths.map((path, n) => ({ path, sha256: checksums[n] ?? '' }))
}

export interface CarefulWrite extends KnownFile {
  /** The guest was told that the file is on the disk: writing it and `sync` succeeded. */
  readonly confirmed: boolean
}

/** Writes one file and syncs; that it fails is an answer, too. */
export async function writeFileCarefully(guest: Guest, path: string, sizeKiB: number): Promise<CarefulWrite> {
  const { status, stdout } = await guest.run(`set -o pipefail\n${writeCommand(path, sizeKiB)} && sync`)
  return { path, sha256: stdout.split(' ')[0] ?? '', confirmed: status === 0 }
}

/** Reads all files from the disk again and compares their checksums. */
export async function checkFiles(guest: Guest, files: readonly KnownFile[]): Promise<FileCheck> {
  await guest.check('echo 3 > /proc/sys/vm/drop_caches')
  // What cannot be read goes to standard error, and the others are read all the same.
  const { stdout } = await guest.run(`sha256sum ${files.map(({ path }) => path).join(' ')}`)
  const found = new Map(stdout.split('\n').map((line) => [line.split('  ')[1], line.split('  ')[0]]))
  const damaged = files.filter(({ path, sha256 }) => found.get(path) !== sha256).map(({ path }) => path)
  return { intact: files.length - damaged.length, damaged }
}

/** The lines of the guest's kernel log that tell of I/O or file system errors. */
export async function kernelErrors(guest: Guest): Promise<string[]> {
  const log = await guest.kernelLog()
  return log
    .split('\n')
    .filter((line) => /I\/O error|EXT4-fs error|EXT4-fs warning|Aborting journal|Remounting/.test(line))
}
