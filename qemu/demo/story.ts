/** The demonstration from beginning to end: the acts in order, the claims of all of them, and nothing left behind. */
import type { Ensemble } from './ensemble.js'
import { actKilled } from './killed.js'
import { actEnd, actPowerCut } from './power-cut.js'
import { actProtected } from './protected.js'
import { actUnprotected } from './unprotected.js'
import { actUnreadable } from './unreadable.js'
import type { Claim, Narrator } from './narrator.js'
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

export interface DemoResult {
  readonly seed: string
  readonly seconds: number
  readonly claims: readonly Claim[]
}

/** @throws LaunchError, GuestCommandError and others when the stage itself breaks down; the reason of `signal` */
export async function runDemo(options: DemoOptions, narrator: Narrator): Promise<DemoResult> {
  try {
    return await perform(options, narrator)
  } catch (error) {
    // Whatever failed then failed because of it.
    options.signal?.throwIfAborted()
    throw error
  }
}

async function perform(options: DemoOptions, narrator: Narrator): Promise<DemoResult> {
  const started = performance.now()
  const stage = await Stage.open(options)
  try {
    narrator.fact(`seed ${stage.random.seed}`)
    const claims = await actUnprotected(stage, narrator)
    const second = await actProtected(stage, narrator)
    claims.push(...second.claims)
    claims.push(...(await actUnreadable(stage, narrator, second.ensemble)))
    claims.push(...(await actKilled(stage, narrator, second.ensemble)))
    const last = await actPowerCut(stage, narrator, second.ensemble)
    claims.push(...last.claims)
    const seconds = (performance.now() - started) / 1000
    await options.intermission?.(last.ensemble, stage)
    claims.push(...(await actEnd(stage, narrator, last.ensemble)))
    return { seed: stage.random.seed, seconds, claims }
  } finally {
    await stage.close()
  }
}
