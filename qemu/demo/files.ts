/** Files with known checksums in a guest: written, and checked after the guest's page cache was dropped. */
import type { Guest } from '../guest.js'

export interface KnownFile {
  readonly path: string
  readonly sha256: string
}

export interface FileCheck {
  readonly intact: number
  /** Wrong checksum, or it could not be read. */
  readonly damaged: readonly string[]
}

/** Writes one file of random content; its checksum is taken before it goes to the disk. */
export async function writeFile(guest: Guest, path: string, sizeKiB: number): Promise<KnownFile> {
  const source = `/tmp/source-${path.replaceAll('/', '-')}`
  const output = await guest.check(
    `dd if=/dev/urandom of=${source} bs=64k count=${sizeKiB / 64} 2>/dev/null && sha256sum < ${source} && cp ${source} ${path}; s=$?; rm -f ${source}; exit $s`,
  )
  return { path, sha256: output.split(' ')[0] ?? '' }
}

/** Reads all files from the disk again and compares their checksums. */
export async function checkFiles(guest: Guest, files: readonly KnownFile[]): Promise<FileCheck> {
  await guest.check('echo 3 > /proc/sys/vm/drop_caches')
  const paths = files.map(({ path }) => path).join(' ')
  const { stdout } = await guest.run(`for f in ${paths}; do echo "$f $(sha256sum < $f 2>/dev/null)"; done`)
  const found = new Map(stdout.split('\n').map((line) => [line.split(' ')[0], line.split(' ')[1]]))
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
