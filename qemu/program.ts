/** Where a program is, or which Debian package has it: "spawn ENOENT" tells a newcomer nothing. */

import { accessSync, constants, statSync } from 'node:fs'
import path from 'node:path'

const PACKAGES: Readonly<Record<string, string>> = {
  'qemu-system-x86_64': 'qemu-system-x86',
  'qemu-storage-daemon': 'qemu-system-common',
  'qemu-nbd': 'qemu-utils',
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  nbdkit: 'nbdkit',
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  nbdsh: 'python3-libnbd',
  fio: 'fio',
  mke2fs: 'e2fsprogs',
  'mkfs.ext4': 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  debugfs: 'e2fsprogs',
  prlimit: 'util-linux',
}

/** Debian keeps the tools for file systems where an ordinary user's PATH does not look. */
const MORE_DIRECTORIES = ['/usr/sbin', '/sbin']

export class ProgramNotFoundError extends Error {
  override name = 'ProgramNotFoundError'
  constructor(
    readonly program: string,
    /** The Debian package that has it, if known. */
    readonly debianPackage: string | undefined,
  ) {
    const advice = debianPackage === undefined ? '' : `: it is in the Debian package ${debianPackage}`
    super(`${program} is not installed${advice}`)
  }
}

/**
 * The path of `program`.
 * @throws ProgramNotFoundError
 */
export function findProgram(program: string, env: NodeJS.ProcessEnv = process.env): string {
  if (program.includes('/')) {
    if (isExecutable(program)) return program
    throw new ProgramNotFoundError(program, PACKAGES[path.basename(program)])
  }
  const directories = [...(env['PATH'] ?? '').split(path.delimiter), ...MORE_DIRECTORIES]
  const found = directories.map((directory) => path.join(directory, program)).find(isExecutable)
  if (found === undefined) throw new ProgramNotFoundError(program, PACKAGES[program])
  return found
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return statSync(file).isFile()
  } catch {
    return false
  }
}
