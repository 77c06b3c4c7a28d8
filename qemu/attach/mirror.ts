/**
 * QEMU's block mirror: copies a disk while the machine uses it, and then puts the copy in its place. Until that last step
 * the machine keeps the disk that it has, so a mirror can be given up at any moment.
 */
import { randomBytes } from 'node:crypto'
import type { EventQueue, QmpEvent } from '../../src/qmp/index.js'
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
  const id = `nbd-remap-${randomBytes(4).toString('hex')}`
  using events = steering.qmp.events(
    (event) => event.event.startsWith('BLOCK_JOB_') && (event.data['device'] === id || event.data['id'] === id),
  )
  await steering.change('blockdev-mirror', {
    'job-id': id,
    device: from,
    target: to,
    sync: 'full',
    // What the machine writes meanwhile is written to both, so the copy catches up however busy the machine is.
    'copy-mode': 'write-blocking',
    'on-source-error': 'report',
    'on-target-error': 'report',
  })
  if (!steering.isRehearsal) await untilReady(steering, events, { id, telling, signal })
  await steering.change('job-complete', { id })
  if (!steering.isRehearsal) await ended(events)
}

async function untilReady(
  steering: Steering,
  events: EventQueue,
  { id, telling, signal }: Pick<Mirror, 'telling' | 'signal'> & { readonly id: string },
): Promise<void> {
  const show = async (): Promise<void> => {
    const jobs =
      await steering.ask<readonly { readonly device: string; readonly offset: number; readonly len: number }[]>(
        'query-block-jobs',
      )
    const job = jobs.find(({ device }) => device === id)
    if (job) telling.progress('copying', job.offset, job.len)
  }
  const timer = setInterval(() => void show().catch(() => undefined), PROGRESS_MS)
  const giveUp = (): void => {
    void steering.change('block-job-cancel', { device: id, force: true }).catch(() => undefined)
  }
  if (signal.aborted) giveUp()
  else signal.addEventListener('abort', giveUp, { once: true })
  try {
    for (;;) {
      const event = await events.next()
      if (event.event === 'BLOCK_JOB_READY') return
      refuseEnd(event)
    }
  } finally {
    clearInterval(timer)
    signal.removeEventListener('abort', giveUp)
  }
}

async function ended(events: EventQueue): Promise<void> {
  for (;;) {
    const event = await events.next()
    if (event.event === 'BLOCK_JOB_COMPLETED' && event.data['error'] === undefined) return
    refuseEnd(event)
  }
}

/** An error of one request ends the job, and then its end says so, too. */
function refuseEnd({ event, data }: QmpEvent): void {
  if (event === 'BLOCK_JOB_CANCELLED') throw new Error('the copy was given up')
  if (event !== 'BLOCK_JOB_COMPLETED') return
  throw new Error(
    `the disk cannot be copied: ${typeof data['error'] === 'string' ? data['error'] : 'QEMU does not say why'}`,
  )
}
