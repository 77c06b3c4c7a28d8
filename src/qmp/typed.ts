/** The commands of QEMU with the types that they have there, for the compiler; at run time nothing is added. */

import type { ExecuteOptions } from './client.js'
import type { QmpPeer } from './peer.js'
import type { NoMembers, QemuCommands } from './qemu-types.js'

/** What commands take and return, by name. */
export type CommandTypes<Commands> = Record<keyof Commands, { readonly arguments: object; readonly returns: unknown }>

/** Arguments may be left out when all of them are optional. */
type Given<Arguments> = Arguments extends NoMembers
  ? [args?: NoMembers, options?: ExecuteOptions]
  : Partial<Arguments> extends Arguments
    ? [args?: Arguments, options?: ExecuteOptions]
    : [args: Arguments, options?: ExecuteOptions]

export interface TypedPeer<Commands extends CommandTypes<Commands>> {
  /** As `QmpClient.execute`, which it is. */
  execute<Name extends keyof Commands & string>(
    command: Name,
    ...given: Given<Commands[Name]['arguments']>
  ): Promise<Commands[Name]['returns']>
}

/**
 * The same client, for commands of QEMU and its storage daemon that have types:
 *
 *     await qemu(client).execute('blockdev-add', { driver: 'file', 'node-name': 'disk', filename: 'disk.img' })
 *
 * The types are those of QEMU 7.2. What an older or newer server makes of the command is its own affair.
 */
export const qemu = (client: QmpPeer): TypedPeer<QemuCommands> => client as TypedPeer<QemuCommands>
