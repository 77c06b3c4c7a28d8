/** The demonstration from beginning to end: the acts in order, the claims of all of them, and nothing left behind. */
import type { Ensemble } from './ensemble.js'
import { actKilled } from './killed.js'
import { actEnd, actPowerCut } from './power-cut.js'
import { actProtected } from './protected.js'
import type { RunRecord } from '../report/record.js'
import { actUnprotected } from './unprotected.js'
import { actUnreadable } from './unreadable.js'
import type { Claim, Narrator } from './narrator.js'
import { controlOf, recordOf } from './record.js'
import { Stage } from './stage.js'

export interface DemoOptions {
  /** The nbd-remap program, run with this Node.js. */
  readonly program: string
  /** Repeats a run: the same blocks go bad, in the same order. */
  readonly seed?: string
  /** Ends it early: everything is killed and removed, and `runDemo` throws the reason. */
  readonly signal?: AbortSignal
  /** Called with everything still running, before the end; what it awaits is how long it stays so. */
  readonly intermission?: (ensemble: Ensemble, stage: Stage) => Promise<void>
}

/** What was promised and measured. */
export interface DemoResult {
  readonly seed: string
  readonly seconds: number
  readonly claims: readonly Claim[]
}

export interface DemoOutcome extends DemoResult {
  /** For its report; the first act is the control run. */
  readonly record: RunRecord
}

/** @throws LaunchError, GuestCommandError and others when the stage itself breaks down; the reason of `signal` */
export async function runDemo(options: DemoOptions, narrator: Narrator): Promise<DemoOutcome> {
  try {
    return await perform(options, narrator)
  } catch (error) {
    // Whatever failed then failed because of it.
    options.signal?.throwIfAborted()
    throw error
  }
}

async function perform(options: DemoOptions, narrator: Narrator): Promise<DemoOutcome> {
  const started = performance.now()
  const stage = await Stage.open(options)
  try {
    narrator.fact(`seed ${stage.random.seed}`)
    const claims = await actUnprotected(stage, stage.recording.narrator(narrator))
    const control = controlOf(await stage.nextPart(), stage.random.seed)
    const told = stage.recording.narrator(narrator)
    const keep = (found: readonly Claim[]): void => {
      for (const { claim, holds, measured } of found) stage.timeline.check(claim, holds, measured)
      claims.push(...found)
    }
    const second = await actProtected(stage, told)
    keep(second.claims)
    keep(await actUnreadable(stage, told, second.ensemble))
    keep(await actKilled(stage, told, second.ensemble))
    const last = await actPowerCut(stage, told, second.ensemble)
    keep(last.claims)
    const seconds = (performance.now() - started) / 1000
    await options.intermission?.(last.ensemble, stage)
    keep(await actEnd(stage, told, last.ensemble))
    const { seed } = stage.random
    return { seed, seconds, claims, record: recordOf(await stage.nextPart(), seed, control) }
  } finally {
    await stage.close()
  }
}
