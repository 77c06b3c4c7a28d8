/**
 * The moment in which a disk is exchanged: the machine stands still, and QEMU has finished and flushed everything. A machine
 * that stood still before is not woken up by it afterwards: whoever stopped it had a reason.
 */
import type { Steering } from './steering.js'
import type { UndoList } from './undo.js'

interface RunState {
  readonly running: boolean
  readonly status: string
}

export const runState = (steering: Steering): Promise<RunState> => steering.ask<RunState>('query-status')

/**
 * Runs `change` while the machine stands still.
 * @returns for how many milliseconds it stood still because of this; 0 when it did before
 */
export async function whilePaused(steering: Steering, undo: UndoList, change: () => Promise<void>): Promise<number> {
  const { running } = await runState(steering)
  const startedMs = performance.now()
  if (running) {
    undo.push('let the machine run again (cont)', () => steering.change('cont'))
    await steering.change('stop')
  }
  await change()
  if (!running) return 0
  await steering.change('cont')
  return performance.now() - startedMs
}
