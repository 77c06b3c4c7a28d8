/** A check: a conversation with the server, and the demands that it judges. */

import type { Examination, Facts, Target } from './examination.js'
import type { Level } from './finding.js'

export interface Check {
  readonly name: string
  /** Of the specification. */
  readonly section: string
  /** What it means when the conversation breaks off: the strictest demand in it. */
  readonly level: Level
  /** What it needs and the server does not have, so that it is skipped. */
  readonly lacks?: (facts: Facts, target: Target) => string | undefined
  readonly run: (examination: Examination) => Promise<void>
}
