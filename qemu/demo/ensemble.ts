/** What the acts after the first one have in common: who plays, on which disk, and what is asked of the server. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { SECTOR_SIZE } from '../../src/util/units.js'
import type { FaultInjector } from '../faults.js'
import type { Guest } from '../guest.js'
import type { Machine } from '../machine.js'
import type { RemapServer } from '../remap-server.js'
import type { KnownFile } from './files.js'
import { BLOCK_SIZE, type Stage } from './stage.js'

/** Bad blocks on a disk of 32,768. */
export const BAD_BLOCKS = 400
export const FILES = 64
export const FILE_KIB = 1024
/** Leaves the last blocks of the disk to nobody. */
export const MKFS = 'mkfs.ext4 -q -F -b 4096 /dev/vda 32512'
export const UNUSED_BLOCK = 32_767
export const MOUNT = 'mount -t ext4 /dev/vda /mnt'
/** How long QEMU holds requests while the server is away. */
const RECONNECT_DELAY_SECONDS = 30

/** What the guest is promised, and does not get without nbd-remap. */
export const PROMISES = {
  noErrors: 'the guest sees no I/O error',
  checksums: 'all files have their checksums after dropping caches',
} as const

export interface Ensemble {
  readonly server: RemapServer
  readonly machine: Machine
  readonly guest: Guest
  readonly faults: FaultInjector
  readonly files: KnownFile[]
}

/** The disk as the server exports it, with a QEMU that waits while the server is away. */
export const remapDisk = (server: RemapServer) => ({
  path: server.socketPath,
  exportName: 'disk',
  reconnectDelaySeconds: RECONNECT_DELAY_SECONDS,
})

interface RemapsAnswer {
  readonly remaps: readonly { readonly 'main-sector': number; readonly sectors: number }[]
}

/** The first sector of every remapped block. */
export async function remappedSectors(server: RemapServer): Promise<number[]> {
  const { remaps } = await server.ask<RemapsAnswer>('query-remaps', { limit: 100_000 })
  const perBlock = BLOCK_SIZE / SECTOR_SIZE
  return remaps.flatMap((range) =>
    Array.from({ length: range.sectors / perBlock }, (_, n) => range['main-sector'] + n * perBlock),
  )
}

/** What `nbd-remap verify` finds wrong with the spare. */
export async function verify(stage: Stage): Promise<{ problems: string[] }> {
  const args = [stage.program, 'verify', '--spare', stage.spare, '--json']
  const run = promisify(execFile)(process.execPath, args)
  // It exits with 1 when it finds something, and says what on standard output all the same.
  const { stdout } = await run.catch((error: unknown) => error as { stdout: string })
  return JSON.parse(stdout) as { problems: string[] }
}
