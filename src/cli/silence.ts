/**
 * What the silence of a server means: pure. Ending it is worth it only when the next one is better off. One that waits for
 * a disk would be followed by one that waits for the same disk, and a machine with too little processor time is no faster
 * for starting another process.
 */
import type { ProcessState } from '../util/process-state.js'

export type Silence =
  /** The process is not there any more. */
  | 'gone'
  /** SIGSTOP, or its control group is frozen. */
  | 'stopped'
  /** It sleeps, and not for a disk; or it has been calculating for ever. */
  | 'hung'
  /** A debugger holds it: whoever does that knows. */
  | 'traced'
  | 'disk'
  /** It wants to run, and the machine does not let it. */
  | 'starved'
  /** One of its threads calculates: that may be a lot of work, which the next one would have, too. */
  | 'busy'

/** Calculating for so many times the limit is no work any more. */
export const BUSY_FACTOR = 5

/**
 * @param before when it was last heard
 * @param silentMs since then
 */
export function judgeSilence(
  before: ProcessState,
  now: ProcessState | undefined,
  { silentMs, limitMs }: { readonly silentMs: number; readonly limitMs: number },
): Silence {
  if (now?.started !== before.started) return 'gone'
  if (now.state === 'T') return 'stopped'
  if (now.state === 't') return 'traced'
  if (now.state === 'D' || now.isInDiskCall) return 'disk'
  const ranMs = now.ranMs - before.ranMs
  const queuedMs = now.queuedMs - before.queuedMs
  if (queuedMs > silentMs / 2) return 'starved'
  if (ranMs < silentMs / 2) return 'hung'
  return silentMs < limitMs * BUSY_FACTOR ? 'busy' : 'hung'
}

/** Whether a next server would be better off. */
export const isWorthEnding = (silence: Silence): boolean => silence === 'stopped' || silence === 'hung'

/** The end of "it does not answer: ...". */
export const SILENCE_TEXT: Readonly<Record<Silence, string>> = {
  gone: 'it is gone',
  stopped: 'it is stopped (SIGSTOP, or a frozen control group)',
  hung: 'it hangs',
  traced: 'a debugger holds it',
  disk: 'it waits for a disk, and the next one would, too (with --io-timeout none waits for long)',
  starved: 'the machine gives it no processor time',
  busy: 'it calculates',
}
