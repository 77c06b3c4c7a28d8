/**
 * What scrub and replica remember in the header of the spare. A CRC does not say who wrote them, so what does not look
 * right counts as absent: a scrub then starts from the beginning, and a replica is stale.
 */
export interface HealingNotes {
  readonly replica?: ReplicaNote
  readonly scrub?: ScrubNote
}

export interface ReplicaNote {
  /** Hash of what the replica says of itself. */
  readonly id: string
  /** The owner epoch at whose end, or in which, nothing had been changed since the replica was declared identical. */
  readonly identicalIn: number
}

/** Sizes are in bytes. */
export interface ScrubNote {
  /** A server that finds this goes on with it. */
  readonly runs: boolean
  readonly position: number
  readonly speed: number
  readonly healed: number
  readonly lost: number
}

/** @param value the member `healing` of the header's notes */
export function healingNotes(value: unknown): HealingNotes {
  const { replica, scrub } = (value ?? {}) as Readonly<Record<keyof HealingNotes, unknown>>
  return { ...(isReplicaNote(replica) && { replica }), ...(isScrubNote(scrub) && { scrub }) }
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0

function isReplicaNote(value: unknown): value is ReplicaNote {
  const { id, identicalIn } = (value ?? {}) as Readonly<Record<string, unknown>>
  return typeof id === 'string' && isCount(identicalIn)
}

function isScrubNote(value: unknown): value is ScrubNote {
  const note = (value ?? {}) as Readonly<Record<string, unknown>>
  return typeof note['runs'] === 'boolean' && ['position', 'speed', 'healed', 'lost'].every((key) => isCount(note[key]))
}
