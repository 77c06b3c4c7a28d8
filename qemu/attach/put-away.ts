/** Block nodes that the machine uses no more: deleted, so that QEMU closes the disk or the connection. */
import { messageOf } from '../../src/util/errors.js'
import { childrenOf, isMadeUp } from './disk.js'
import type { Steering } from './steering.js'

/** @returns what could not be closed, which does no harm, in sentences for people */
export async function putAway(steering: Steering, nodeName: string): Promise<string[]> {
  // It went by itself when the device let go of it.
  if (isMadeUp(nodeName)) return []
  try {
    const below = steering.isRehearsal ? [] : await childrenOf(steering, nodeName)
    await steering.change('blockdev-del', { 'node-name': nodeName })
    for (const name of below) if (!isMadeUp(name)) await steering.change('blockdev-del', { 'node-name': name })
    return []
  } catch (error) {
    return [`QEMU keeps something open that the machine does not use any more: ${messageOf(error)}`]
  }
}
