/** A check: a conversation with the server, and the demands that it judges. */

import type { Examination, Facts, Target } from './examination.js'
import type { Level } from './finding.js'
import type { Reply } from './raw-client.js'

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

/** For `lacks`. */
export const needsStructured = ({ structured }: Facts): string | undefined =>
  structured ? undefined : 'no structured replies'

/** Bytes that any server takes, aligned. */
export const unitOf = ({ minimum }: Facts): number => Math.max(512, minimum)

/** For details. */
export const said = ({ error, data }: Reply): string => `error ${error}, ${data.length} bytes`
