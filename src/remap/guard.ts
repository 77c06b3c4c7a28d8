/** Keeps a disk that hangs from hanging its clients: see `DeadlineDevice`. What is late is told to the world. */
import { DeadlineDevice, type RequestRange } from '../device/deadline.js'
import type { OpenedDisk } from '../device/open.js'
import type { Log } from '../util/log.js'
import { SECTOR_SIZE } from '../util/units.js'
import type { RemapEventSink } from './events.js'

/** What becomes of a write that a disk does not answer in time. */
export type TimeoutPolicy = 'eio' | 'remap'

export type GuardedDisk = 'main' | 'spare' | 'replica'

export interface GuardOptions {
  readonly disk: GuardedDisk
  readonly timeoutMs: number
  readonly onTimeout: TimeoutPolicy
  readonly emit: RemapEventSink
  readonly log: Log
}

/**
 * Shares of the thread pool that a local disk can hold: the rest is for disks that do not hang. Main, replica and two spares
 * that hang at once still leave an eighth.
 */
const POOL_SHARE = { main: 1 / 2, spare: 1 / 8, replica: 1 / 8 } as const
/** libuv's own. */
const POOL_SIZE_DEFAULT = 4

export function guarded(opened: OpenedDisk, options: GuardOptions): OpenedDisk {
  const { disk, timeoutMs, onTimeout, emit, log } = options
  const { name } = opened.device
  const tell = ({ operation, offset, length }: RequestRange, hangs: boolean): void => {
    const sector = Math.floor(offset / SECTOR_SIZE)
    const sectors = Math.ceil((offset + length) / SECTOR_SIZE) - sector
    const fault = opened.device.heldBy?.(operation, offset, length)
    const injected = fault === undefined ? {} : { fault }
    emit('IO_TIMEOUT', { disk, name, operation, sector, sectors, seconds: timeoutMs / 1000, hangs, ...injected })
  }
  const device = new DeadlineDevice(opened.device, {
    timeoutMs,
    // Where a spare hangs, a block that is written as a whole moves on all the same; of others the rest is not to be had.
    onTimeout: disk === 'spare' ? 'eio' : onTimeout,
    ...(!opened.identity.id.startsWith('nbd:') && { inFlightMax: shareOfPool(POOL_SHARE[disk]) }),
    onLate: (request, isNews) => {
      if (isNews) log.error(`${disk} ${name} hangs: nothing was answered for ${timeoutMs / 1000} s`)
      tell(request, device.hangs)
    },
    onAlive: () => {
      log.warn(`${disk} ${name} answers again`)
      emit('DISK_RESPONDS', { disk, name })
    },
  })
  return { ...opened, device }
}

const shareOfPool = (share: number): number =>
  Math.max(1, Math.floor(Number(process.env['UV_THREADPOOL_SIZE'] ?? POOL_SIZE_DEFAULT) * share))
