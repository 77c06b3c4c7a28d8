/** What clients see of a pair: the remapped disk, and with `nbd-remap:state` what happened to it. */
import { STATE_CONTEXT } from '../remap/extents.js'
import type { RemapTarget } from '../remap/target.js'
import { TrackedDevice } from '../remap/tracked.js'
import type { Export } from '../server/export.js'

export const pairExport = (target: RemapTarget, name: string): Export => ({
  name,
  description: `${target.name}, remapped`,
  device: target.replica ? new TrackedDevice(target, target.replica) : target,
  readOnly: target.readOnly,
  contexts: [
    {
      name: STATE_CONTEXT,
      extents: (offset, length, countMax) => target.stateExtents(offset, length, countMax),
    },
  ],
})
