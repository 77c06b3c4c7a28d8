/**
 * Whether a machine that an error has paused may go on. It may when what caused the error is seen to be gone, and never when
 * the same request would fail again at once. Where that cannot be seen it is tried, more and more rarely, a few times. Pure.
 */
import type { Cause } from './cause.js'

/** How the server is now. */
export interface Evidence {
  /** Why it cannot be asked; undefined: it answers. */
  readonly unreachable: string | undefined
  /** A disk of it hangs. */
  readonly stalled: boolean
  readonly suspended: boolean
  readonly freeBlocks: number
  /** Of its NBD server. */
  readonly clients: number
  readonly startedAt: string
  /** Of the range that failed; undefined when it is not known, or nobody needs to know. */
  readonly check: { readonly readable: boolean; readonly badSector?: number; readonly error?: string } | undefined
}

/** What became of attempts to continue the machine, since it ran well the last time. */
export interface Attempts {
  readonly count: number
  readonly lastMs: number
  readonly cause: Cause
  readonly evidence: Evidence
}

export type Decision =
  | { readonly kind: 'continue'; readonly because: string }
  /** `advice`: what a person can do. `untilMs`: look again then; else when something happens. */
  | { readonly kind: 'wait'; readonly because: string; readonly advice?: string; readonly untilMs?: number }
  | { readonly kind: 'give-up'; readonly because: string; readonly advice: string }

export interface Situation {
  readonly cause: Cause
  readonly evidence: Evidence
  readonly attempts: Attempts | undefined
  readonly attemptsMax: number
  /** As `Date.now()`. */
  readonly nowMs: number
}

const BACKOFF_MS = 1000
const BACKOFF_MAX_MS = 60_000

export function decide(situation: Situation): Decision {
  const { cause, evidence, attempts, attemptsMax, nowMs } = situation
  const obstacle = obstacleOf(evidence) ?? persistence(cause, evidence)
  if (obstacle !== undefined) return obstacle
  const because = reasonToGoOn(cause, evidence)
  if (attempts === undefined) return { kind: 'continue', because }
  const isSame = isSameTrouble(attempts, situation)
  if (isSame && attempts.count >= attemptsMax) {
    return {
      kind: 'give-up',
      because: `the same error came back each of ${attempts.count} times that the machine was continued`,
      advice: 'find out why, and continue it by hand (cont)',
    }
  }
  const pauseMs = isSame ? Math.min(BACKOFF_MS * 2 ** (attempts.count - 1), BACKOFF_MAX_MS) : BACKOFF_MS
  const untilMs = attempts.lastMs + pauseMs
  if (nowMs >= untilMs) return { kind: 'continue', because: `${because}; attempt ${isSame ? attempts.count + 1 : 1}` }
  return { kind: 'wait', because: 'the error came back at once, so the next attempt has to wait', untilMs }
}

/** The attempts to come count from the beginning when the error is another one, or the server has got better. */
export function isSameTrouble(attempts: Attempts, { cause, evidence }: Pick<Situation, 'cause' | 'evidence'>): boolean {
  const { cause: before, evidence: then } = attempts
  if (before.kind !== cause.kind || before.range?.sector !== cause.range?.sector) return false
  return then.startedAt === evidence.startedAt && evidence.freeBlocks <= then.freeBlocks
}

/** The server is in no state to serve anything. */
function obstacleOf(evidence: Evidence): Decision | undefined {
  const { unreachable, stalled, suspended, clients } = evidence
  if (unreachable !== undefined) {
    return { kind: 'wait', because: `the server does not answer: ${unreachable}`, advice: 'start it again' }
  }
  if (stalled) return { kind: 'wait', because: 'a disk of the server hangs' }
  if (suspended) return { kind: 'wait', because: 'the server is suspended', advice: 'nbd-remap dmsetup resume' }
  if (clients > 0) return undefined
  return {
    kind: 'wait',
    because: 'QEMU has not connected to the server again',
    advice: 'without reconnect-delay it never will: --replace-node gives it another connection',
  }
}

/** What caused the error is still there. */
function persistence(cause: Cause, { freeBlocks, check }: Evidence): Decision | undefined {
  if (check?.readable === false) {
    const { badSector, error = 'EIO' } = check
    const because = `sector ${badSector ?? cause.range?.sector ?? '?'} still cannot be read (${error})`
    return { kind: 'wait', because, advice: adviceOn(cause) }
  }
  const needed = cause.kind === 'no-spare' || cause.kind === 'unwritable' ? (cause.blocksNeeded ?? 1) : 0
  if (freeBlocks < needed) {
    const because =
      freeBlocks === 0
        ? 'no spare block is free'
        : `the request needs ${needed} free spare blocks and finds ${freeBlocks}`
    return { kind: 'wait', because, advice: 'nbd-remap spare add' }
  }
  return undefined
}

const adviceOn = ({ kind }: Cause): string =>
  kind === 'gone'
    ? 'bring the disk back'
    : 'give the server a replica to heal it from (serve --replica), or write it anew'

function reasonToGoOn({ kind, range }: Cause, { freeBlocks }: Evidence): string {
  const free = `${freeBlocks} spare blocks are free`
  switch (kind) {
    case 'no-spare':
      return free
    case 'unreadable':
      return `what could not be read at sector ${range?.sector ?? '?'} can be read now`
    case 'unwritable':
      return `sector ${range?.sector ?? '?'} can be read, and ${free}`
    case 'gone':
      return 'the disk answers again'
    case 'connection':
      return 'the server is back'
    case 'unknown':
      return `the server is in order, and ${free}`
  }
}
