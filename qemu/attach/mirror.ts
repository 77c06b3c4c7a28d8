/**
 * QEMU's block mirror: copies a disk while the machine uses it, and then puts the copy in its place. Until that last step
 * the machine keeps the disk that it has, so a mirror can be given up at any moment.
 */
import { QmpJobError, runJob } from '../../src/qmp/index.js'
import type { Telling } from './parts.js'
import type { Steering } from './steering.js'

const PROGRESS_MS = 250

export interface Mirror {
  /** The node that is copied. */
  readonly from: string
  readonly to: string
  readonly telling: Telling
  readonly signal: AbortSignal
}

/**
 * Resolves when the machine uses the copy.
 * @throws Error when it was given up or something cannot be copied; the machine has the disk that it had
 */
export async function mirror(steering: Steering, { from, to, telling, signal }: Mirror): Promise<void> {
  const args = {
    'job-id': `nbd-remap-${to}`,
    device: from,
    target: to,
    sync: 'full',
    // What the machine writes meanwhile is written to both, so the copy catches up however busy the machine is.
    'copy-mode': 'write-blocking',
    'on-source-error': 'report',
    'on-target-error': 'report',
  }
  if (steering.isRehearsal) {
    await steering.change('blockdev-mirror', args)
    await steering.change('job-complete', { id: args['job-id'] })
    return
  }
  try {
    await runJob(steering.qmp, 'blockdev-mirror', args, {
      signal,
      progressIntervalMs: PROGRESS_MS,
      onProgress: ({ current, total }) => {
        telling.progress('copying', current, total)
      },
    })
  } catch (error) {
    if (!(error instanceof QmpJobError)) throw error
    signal.throwIfAborted()
    throw new Error(`the disk cannot be copied: ${error.message}`, { cause: error })
  }
}
