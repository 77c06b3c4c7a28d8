/** Connects to all targets of a console and gives them their names. */
import { setTimeout as pause } from 'node:timers/promises'
import { QmpConnectionError } from '../../src/qmp/error.js'
import { messageOf } from '../../src/util/errors.js'
import { nameTargets, type TargetArgument } from './names.js'
import { Target, type TargetListener, type TargetOptions } from './target.js'

const DIAL_PAUSE_MS = 200
/** Silence that long wants a word. */
const QUIET_MS = 2000

export interface ConnectOptions extends Omit<TargetOptions, 'address'> {
  /** Those that do not answer are told, and may be dialled later, as long as one does. */
  readonly tolerant: boolean
  readonly signal: AbortSignal
  readonly note: (text: string) => void
}

/**
 * In the order of the arguments.
 * @throws QmpConnectionError with the reason of each that could not be reached
 * @throws UsageError for a name that is given twice
 */
export async function connectTargets(
  given: readonly TargetArgument[],
  listener: TargetListener,
  options: ConnectOptions,
): Promise<Target[]> {
  const targets = given.map(({ name, address }) => new Target({ ...options, address, name }, listener))
  const reasons = await Promise.all(targets.map((target) => reach(target, options)))
  const failed = reasons.filter((reason) => reason !== undefined)
  const usable = failed.length === 0 || (options.tolerant && failed.length < targets.length)
  try {
    if (!usable) throw new QmpConnectionError(failed.join('; '))
    const names = nameTargets(
      targets.map(({ away, program }, index) => ({
        name: given[index]?.name,
        program: away === undefined ? program : 'target',
      })),
    )
    for (const [index, target] of targets.entries()) target.name = names[index] ?? ''
  } catch (error) {
    await Promise.all(targets.map((target) => target.close()))
    throw error
  }
  for (const [index, reason] of reasons.entries())
    if (reason !== undefined) options.note(`${targets[index]?.name ?? ''}: ${reason}`)
  return targets
}

/** @returns why it could not be reached */
async function reach(target: Target, { redial, signal, note }: ConnectOptions): Promise<string | undefined> {
  const timer = setTimeout(() => {
    note(`waiting for ${target.address} ...`)
  }, QUIET_MS)
  try {
    for (;;) {
      try {
        await target.connect(signal)
        return undefined
      } catch (error) {
        if (!redial || signal.aborted) return messageOf(error)
        await pause(DIAL_PAUSE_MS, undefined, { signal }).catch(() => undefined)
      }
    }
  } finally {
    clearTimeout(timer)
  }
}
