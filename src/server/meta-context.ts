/**
 * Metadata contexts of an export ("Metadata querying" of the specification): `base:allocation` of every device, and what
 * the export adds. Which of them a query means is decided here, without any I/O.
 */

import type { Allocation, Device } from '../device/device.js'
import { BASE_ALLOCATION, NBD_STATE_HOLE, NBD_STATE_ZERO } from '../nbd/protocol.js'
import type { Export, ExportContext } from './export.js'

/** A context that a client has asked for, and the number that stands for it in replies. */
export interface SelectedContext {
  readonly id: number
  readonly context: ExportContext
}

const ALLOCATION_FLAGS: Readonly<Record<Allocation, number>> = {
  data: 0,
  hole: NBD_STATE_HOLE | NBD_STATE_ZERO,
  zero: NBD_STATE_ZERO,
}

const allocationOf = (device: Device): ExportContext => ({
  name: BASE_ALLOCATION,
  extents: async (offset, length, countMax) => {
    const extents = await device.extents?.(offset, length, countMax)
    if (extents === undefined) return [{ length, flags: ALLOCATION_FLAGS.data }]
    return extents.map((extent) => ({ length: extent.length, flags: ALLOCATION_FLAGS[extent.allocation] }))
  },
})

export const contextsOf = (it: Export): readonly ExportContext[] => [allocationOf(it.device), ...(it.contexts ?? [])]

/** `base:` of `base:allocation`: as a query for a list, all contexts that begin so. */
const namespaceOf = (name: string): string => name.slice(0, name.indexOf(':') + 1)

/** For NBD_OPT_LIST_META_CONTEXT: all of them when there is no query. Queries that mean nothing here are ignored. */
export function listContexts(it: Export, queries: readonly string[]): ExportContext[] {
  const isMeant = ({ name }: ExportContext): boolean => queries.includes(name) || queries.includes(namespaceOf(name))
  return contextsOf(it).filter((context) => queries.length === 0 || isMeant(context))
}

/** For NBD_OPT_SET_META_CONTEXT: those named in full, each once, with ids from 1. */
export const selectContexts = (it: Export, queries: readonly string[]): SelectedContext[] =>
  contextsOf(it)
    .filter(({ name }) => queries.includes(name))
    .map((context, i) => ({ id: i + 1, context }))
