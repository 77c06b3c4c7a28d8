/**
 * The notes of a header as msgpack. They always fit: what is there to find disks by itself, and to say which ones are meant,
 * gives way to what the slots depend on, in this order:
 *
 *   1. of the blocks of the main disk with the worst errors the less bad half is forgotten, again and again, then the totals
 *   2. spares that were removed are forgotten, the oldest first
 *   3. of the location of the main disk the beginning goes
 *   4. of the locations of the spares, all in equal shares
 *
 * The rest has bounds of its own, with which it fits: test/spare/notes.test.ts has all of it at its longest.
 */
import { Packr } from 'msgpackr'
import { lastBytes } from '../util/last-bytes.js'
import type { HeaderNotes } from './format.js'

const packr = new Packr({ useRecords: false })

export const unpackNotes = (bytes: Buffer): unknown => packr.unpack(bytes)

const MAIN_LOCATION_LEAST = 64

/** @throws RangeError when they do not fit into `room` bytes with everything left out: a text that nobody bounded */
export function packNotes(notes: HeaderNotes, room: number): Buffer {
  let fitted = notes
  for (;;) {
    const packed = packr.pack(fitted)
    if (packed.length <= room) return packed
    const shorter = shortened(fitted, packed.length - room)
    if (!shorter) throw new RangeError(`header notes of ${packed.length} bytes do not fit`)
    fitted = shorter
  }
}

/** @returns `undefined`: there is nothing left to leave out */
function shortened(notes: HeaderNotes, excess: number): HeaderNotes | undefined {
  const { errors, ...others } = notes
  if (errors !== undefined) return { ...others, ...withFewerBlocks(errors) }
  const { pool, main } = notes
  if (pool.removed.length > 0) return { ...notes, pool: { ...pool, removed: pool.removed.slice(0, -1) } }
  const location = lastBytes(main.location, MAIN_LOCATION_LEAST)
  if (location !== main.location) return { ...notes, main: { ...main, location } }
  const longest = Math.max(...pool.members.map((member) => Buffer.byteLength(member.location)))
  if (longest === 0) return undefined
  const bytesMax = Math.max(0, longest - Math.ceil(excess / pool.members.length))
  const members = pool.members.map((member) => ({ ...member, location: lastBytes(member.location, bytesMax) }))
  return { ...notes, pool: { ...pool, members } }
}

function withFewerBlocks(errors: unknown): Pick<HeaderNotes, 'errors'> {
  const { worst } = (errors ?? {}) as { readonly worst?: unknown }
  if (!Array.isArray(worst) || worst.length === 0) return {}
  return { errors: { ...(errors as object), worst: worst.slice(0, Math.floor(worst.length / 2)) } }
}
