/** `nbd-remap attach` and `detach`: an export as a block device, by the kernel's nbd driver and the program nbd-client. */
import { Command } from 'commander'
import { controlOption } from './options.js'

export interface AttachOptions {
  readonly control?: string
  readonly device?: string
}

export const attachCommand = (): Command =>
  new Command('attach')
    .description("Make an export a block device, with the kernel's nbd driver.")
    .argument('[export]', 'a device of dmsetup create, or an NBD URI')
    .addOption(controlOption().makeOptionMandatory(false))
    .option('--device <path>', 'the block device (default: the first one that is free)')
    .addHelpText(
      'after',
      `
Needs root, the program nbd-client (Debian package nbd-client) and the kernel's driver (modprobe nbd). Prints the path of the
block device. When the server is restarted, the kernel connects again.

Example:
  nbd-remap attach disk
  nbd-remap attach --control /run/disk.qmp --device /dev/nbd3`,
    )
    .action(async (exported: string | undefined, options: AttachOptions) => {
      const { attach } = await import('./kernel-device.js')
      await attach(exported, options)
    })

export const detachCommand = (): Command =>
  new Command('detach')
    .description('End what attach has begun.')
    .argument('<device>', 'the block device')
    .addHelpText('after', '\nExample:\n  nbd-remap detach /dev/nbd0')
    .action(async (device: string) => {
      const { detach } = await import('./kernel-device.js')
      await detach(device)
    })
