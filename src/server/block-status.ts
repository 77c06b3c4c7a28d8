/**
 * Answers to NBD_CMD_BLOCK_STATUS: asks each selected context, and makes sure of what the specification demands of the
 * extents, whoever found them: none empty, none outside the range asked about, at least one and not too many.
 */

import { NBD_CMD_FLAG_REQ_ONE, type BlockStatus, type Extent, type Request } from '../nbd/protocol.js'
import { assert } from '../util/assert.js'
import type { SelectedContext } from './meta-context.js'

/** Extents in one answer. The specification allows 2^20; a client asks on from where an answer ends. */
export const EXTENTS_MAX = 4096
/** Bytes of memory that an extent takes on its way out. */
const EXTENT_COST = 32
const SECTOR = 512

const countMax = ({ flags, length }: Request): number =>
  (flags & NBD_CMD_FLAG_REQ_ONE) !== 0 ? 1 : Math.min(EXTENTS_MAX, Math.ceil(length / SECTOR) + 1)

/** Upper bound of the bytes that answering takes. */
export const statusCost = (request: Request, contextCount: number): number =>
  countMax(request) * EXTENT_COST * contextCount

/** One for each context, in their order. @throws DeviceError */
export function blockStatuses(request: Request, contexts: readonly SelectedContext[]): Promise<BlockStatus[]> {
  const { offset, length } = request
  return Promise.all(
    contexts.map(async ({ id, context }) => {
      const extents = await context.extents(offset, length, countMax(request))
      return { contextId: id, extents: tidy(extents, length, countMax(request)) }
    }),
  )
}

/** Neighbours that are the same become one; what lies beyond `length` or `count` is left out. */
export function tidy(extents: readonly Extent[], length: number, count: number): Extent[] {
  const tidied: Extent[] = []
  let rest = length
  for (const extent of extents) {
    const part = Math.min(extent.length, rest)
    const last = tidied.at(-1)
    if (part <= 0) continue
    if (last?.flags === extent.flags) tidied[tidied.length - 1] = { ...last, length: last.length + part }
    else if (tidied.length === count) break
    else tidied.push({ length: part, flags: extent.flags })
    rest -= part
  }
  assert(tidied.length > 0, 'a metadata context said nothing')
  return tidied
}
