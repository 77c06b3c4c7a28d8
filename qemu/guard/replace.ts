/** Another connection to the server for a disk whose own QEMU does not make again: a node without reconnect-delay is dead. */
import type { NbdUri } from '../../src/nbd/uri.js'
import type { QmpClient } from '../../src/qmp/index.js'
import type { MachineDisk } from '../attach/disk.js'
import * as parts from '../attach/parts.js'
import { putAway } from '../attach/put-away.js'
import { Steering } from '../attach/steering.js'

/** @returns the name of the new node. @throws Error; then the disk has what it had */
export function replaceNode(
  qmp: QmpClient,
  disk: MachineDisk,
  uri: NbdUri,
  reconnectDelaySeconds: number,
): Promise<string> {
  const steering = new Steering(qmp)
  return parts.takingBack(steering, async (undo) => {
    const nodeName = await parts.freeNodeName(steering, `${disk.label}-again`)
    const options = { nodeName, reconnectDelaySeconds, discard: 'unmap' }
    await parts.addNodeFor(disk, steering, undo, parts.exportNode(uri, disk, options))
    await parts.exchange(steering, undo, disk, nodeName)
    undo.clear()
    await putAway(steering, disk.nodeName)
    return nodeName
  })
}
