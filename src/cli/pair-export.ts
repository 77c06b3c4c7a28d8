/** What clients see of a pair: the remapped disk, and with `nbd-remap:state` what happened to it. */
import type { Device } from '../device/device.js'
import { FirstPart } from '../device/pass-through.js'
import { STATE_CONTEXT } from '../remap/extents.js'
import type { RemapTarget } from '../remap/target.js'
import { TrackedDevice } from '../remap/tracked.js'
import type { Export } from '../server/export.js'

/** @param size bytes, no more than main has */
export const pairExport = (target: RemapTarget, name: string, size = target.size): Export => ({
  name,
  description: `${target.name}, remapped`,
  device: firstPart(target.replica ? new TrackedDevice(target, target.replica) : target, size),
  readOnly: target.readOnly,
  contexts: [
    {
      name: STATE_CONTEXT,
      extents: (offset, length, countMax) => target.stateExtents(offset, length, countMax),
    },
  ],
})

const firstPart = (device: Device, size: number): Device => (size < device.size ? new FirstPart(device, size) : device)
