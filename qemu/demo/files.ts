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

/**
 * Random bytes into a file for each name, first in memory, where their checksums are taken. One program for all files
 * wherever that is possible, and no pipes: starting programs and switching between them is what costs time under emulation.
 */
const writeCommand = (names: readonly string[], sizeKiB: number): string => `
  w=$(mktemp -d) && cd $w || exit
  for n in ${names.join(' ')}; do dd if=/dev/urandom of=$n bs=${sizeKiB}k count=1 2>/dev/null || exit; done
  sha256sum * && cp * ${FOLDER}; status=$?
  rm -r $w; [ $status = 0 ]`

const FOLDER = '/mnt'

/** The output of sha256sum by file name. */
function parseChecksums(output: string): Map<string, string> {
  const lines = output.split('\n').map((line) => line.split('  '))
  return new Map(lines.map(([sha256 = '', name = '']) => [name, sha256]))
}

const knownFiles = (names: readonly string[], output: string): KnownFile[] => {
  const checksums = parseChecksums(output)
  return names.map((name) => ({ path: `${FOLDER}/${name}`, sha256: checksums.get(name) ?? '' }))
}

/** Writes files of random content to /mnt. @throws GuestCommandError when one cannot be written */
export async function writeFiles(guest: Guest, names: readonly string[], sizeKiB: number): Promise<KnownFile[]> {
  return knownFiles(names, await guest.check(writeCommand(names, sizeKiB)))
}

export interface CarefulWrite {
  readonly file: KnownFile
  /** The guest was told that the file is on the disk: writing it and `sync` succeeded. */
  readonly confirmed: boolean
}

/** Writes one file and syncs; that it fails is an answer, too. */
export async function writeFileCarefully(guest: Guest, name: string, sizeKiB: number): Promise<CarefulWrite> {
  const { status, stdout } = await guest.run(`${writeCommand([name], sizeKiB)} && sync`)
  return { file: knownFiles([name], stdout)[0] ?? { path: name, sha256: '' }, confirmed: status === 0 }
}

/** Reads all files from the disk again and compares their checksums. */
export async function checkFiles(guest: Guest, files: readonly KnownFile[]): Promise<FileCheck> {
  await guest.check('echo 3 > /proc/sys/vm/drop_caches')
  // What cannot be read goes to standard error, and the others are read all the same.
  const { stdout } = await guest.run(`sha256sum ${files.map(({ path }) => path).join(' ')}`)
  const found = parseChecksums(stdout)
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
