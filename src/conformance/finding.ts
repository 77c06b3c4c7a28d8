/** What was found out about a server, one sentence each, by the words of the specification: MUST, SHOULD. */

export const LEVELS = ['MUST', 'SHOULD'] as const
export type Level = (typeof LEVELS)[number]

export interface Finding {
  /** Name of the check that it comes from. */
  readonly check: string
  readonly level: Level
  /** What is demanded, to be read after the level. */
  readonly demand: string
  readonly result: 'pass' | 'fail' | 'skip'
  /** What was seen instead, or why it was not tried. */
  readonly detail?: string
}

export interface Tally {
  readonly pass: number
  readonly fail: number
  readonly skip: number
}

export function tally(findings: readonly Finding[], level: Level): Tally {
  const count = (result: Finding['result']): number =>
    findings.filter((finding) => finding.level === level && finding.result === result).length
  return { pass: count('pass'), fail: count('fail'), skip: count('skip') }
}
