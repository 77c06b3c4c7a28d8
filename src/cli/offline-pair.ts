/** A pair that a command opens for itself, while nobody serves it. */
import type { PairLocations } from '../remap/pair-disks.js'
import type { Pair } from '../remap/pair.js'
import { READ_POLICY_DEFAULT } from '../remap/policy.js'
import type { Log } from '../util/log.js'

/** Opens the pair for looking at it: nothing is written. @throws as `withOfflinePair` does */
export async function withReadOnlyPair<T>(
  locations: PairLocations,
  log: Log,
  work: (pair: Pair) => Promise<T>,
): Promise<T> {
  const pair = await openPair(locations, log, true)
  try {
    return await work(pair)
  } finally {
    await pair.close()
  }
}

/**
 * Opens the pair, and stops it in good order when `work` is done or has failed. Ctrl-C asks `work` to stop.
 * @throws RefusedError, Error, and whatever `work` throws
 */
export async function withOfflinePair<T>(
  locations: PairLocations,
  log: Log,
  work: (pair: Pair, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController()
  const abort = (): void => {
    stop.abort()
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, abort)
  const pair = await openPair(locations, log, false)
  let result: T
  try {
    result = await work(pair, stop.signal)
  } catch (error) {
    await pair.close().catch(() => undefined)
    throw error
  } finally {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, abort)
  }
  await pair.close()
  return result
}

async function openPair(locations: PairLocations, log: Log, readOnly: boolean): Promise<Pair> {
  const [{ closeDisks, openDisks }, { Pair }] = await Promise.all([
    import('../remap/pair-disks.js'),
    import('../remap/pair.js'),
  ])
  const disks = await openDisks(locations, { mainReadOnly: readOnly, spareReadOnly: readOnly, log })
  try {
    return await Pair.open(disks, { policy: READ_POLICY_DEFAULT, acceptMain: false, emit: () => undefined, log })
  } catch (error) {
    await closeDisks(disks)
    throw error
  }
}
