/**
 * What QEMU and its programs do with a disk, as their locks say. They lock single bytes of the file, each for something that
 * they do, or that nobody else may do while they have it (QEMU's block/file-posix.c); nothing is ever read or written there.
 * The locks are fcntl(2)'s, so flock(2) of ours does not see them.
 */
import { RefusedError } from '../util/errors.js'
import type { Log } from '../util/log.js'
import { holdersOf, locksOn, type KernelLock, type LockHolder } from './kernel-locks.js'

/** A byte for each permission that is used, and another that far behind for each that others may not have. */
const USED = 100
const NOT_SHARED = 200
/** QEMU's numbers of the permissions (BLK_PERM_*) that matter here. Unchanged: the guest sees no change, the disk does. */
const CONSISTENT_READ = 0
const WRITE = 1
const WRITE_UNCHANGED = 2

const covers =
  (...bytes: readonly number[]) =>
  ({ kind, first, last }: KernelLock): boolean =>
    kind !== 'FLOCK' && bytes.some((byte) => first <= byte && byte <= last)

interface Conflict {
  readonly isMeant: (lock: KernelLock) => boolean
  readonly why: string
}

const WRITER = covers(USED + WRITE, USED + WRITE_UNCHANGED)

const CONFLICTS: Readonly<Record<'read' | 'write', readonly Conflict[]>> = {
  read: [
    { isMeant: WRITER, why: 'which writes to it: what is read here would change on the way' },
    { isMeant: covers(NOT_SHARED + CONSISTENT_READ), why: 'which allows nobody to read it now' },
  ],
  write: [
    { isMeant: WRITER, why: 'which writes to it: two writers would destroy it' },
    {
      isMeant: covers(NOT_SHARED + WRITE, NOT_SHARED + WRITE_UNCHANGED, NOT_SHARED + CONSISTENT_READ),
      why: 'which allows nobody to write to it meanwhile',
    },
  ],
}

export interface QemuLockOptions {
  readonly readOnly: boolean
  /** Somebody answers for it that nothing goes wrong: a warning instead of a refusal. */
  readonly besideQemu?: boolean
  readonly log: Log
}

/** @throws RefusedError when QEMU does something with the open disk that does not go with what is wanted of it */
export function keepOffQemu(fd: number, name: string, { readOnly, besideQemu, log }: QemuLockOptions): void {
  const locks = locksOn(fd)
  const conflict = CONFLICTS[readOnly ? 'read' : 'write'].find(({ isMeant }) => locks.some(isMeant))
  if (!conflict) return
  const sentence = `${name} is in use by ${nameHolders(holdersOf(fd, conflict.isMeant))}, ${conflict.why}`
  if (!besideQemu) throw new RefusedError(`${sentence}. Stop it first; ${ATTACH}`)
  log.warn(`${sentence}. It is opened all the same: ${readOnly ? 'it is only looked at' : NOT_YET}`)
}

const ATTACH =
  'the disk of a machine that is to go on running is put behind nbd-remap by nbd-remap attach-vm, for which serve has --main-in-use'

const NOT_YET = 'nothing may be written here before that has let go of it, which nbd-remap attach-vm sees to'

function nameHolders(holders: readonly LockHolder[]): string {
  if (holders.length === 0) return "a program of QEMU's that another user runs (sudo lslocks, sudo fuser -v FILE)"
  return holders.map(({ pid, program }) => `${program} (process ${pid})`).join(' and ')
}
