/** `nbd-remap dmsetup`: the commands of dmsetup(8) that dm-remap's users need. What they do is loaded when they are called. */
import { Command, Option } from 'commander'

export function dmsetupCommand(): Command {
  const dmsetup = new Command('dmsetup').description('Create and steer devices by name, with the words of dmsetup(8).')
  const commands = [create(), remove(), message(), status(), table(), info(), ls(), targets(), suspend(), resume()]
  for (const command of commands) dmsetup.addCommand(command)
  return dmsetup.addHelpText(
    'after',
    `
Devices are found in NBD_REMAP_RUNTIME_DIR or, if that is not set, in the folder nbd-remap of XDG_RUNTIME_DIR or /run.

Example:
  truncate -s 500M main.img spare.img
  echo "0 1024000 dm-remap-v4 main.img spare.img" | nbd-remap dmsetup create disk
  nbd-remap dmsetup message disk 0 add_remap 1000 5000 100`,
  )
}

/** Accepted, because there is no udev that would have to be waited for. */
const withUdevOptions = (command: Command): Command =>
  command
    .addOption(new Option('--noudevsync', 'accepted, and without effect'))
    .addOption(new Option('--noudevrules', 'accepted, and without effect'))
    .addOption(new Option('--verifyudev', 'accepted, and without effect'))

const example = (text: string): string => `\nExample:\n  ${text}`

interface CreateOptions {
  readonly table?: string
  readonly readonly?: boolean
  readonly supervise?: boolean
}

const create = (): Command =>
  withUdevOptions(
    new Command('create')
      .description('Start a server for a device in the background, and print its NBD URI.')
      .argument('<name>', 'of the device')
      .argument('[table-file]', 'the table; from standard input if absent')
      .option('--table <line>', '0 SECTORS dm-remap-v4 MAIN SPARE [block_size BYTES]')
      .option('-r, --readonly', 'serve it read-only')
      .option('--supervise', 'a parent starts the server again when it dies, and clients that reconnect go on'),
  )
    .addHelpText(
      'after',
      `
A blank spare is formatted, for blocks of one sector unless block_size says otherwise. The device is used through its URI.

Exit codes: 0 created, 1 failed, or there is such a device already, 2 wrong usage or a wrong table, 3 refused (a disk is
in use, or is not the disk it should be).
${example('nbd-remap dmsetup create disk --table "0 1024000 dm-remap-v4 /dev/sdb /dev/sdc"')}`,
    )
    .action(async (name: string, file: string | undefined, { table, ...how }: CreateOptions) => {
      const { createDevice, readTable } = await import('./create.js')
      await createDevice(name, await readTable(file, table), how)
    })

const remove = (): Command =>
  withUdevOptions(
    new Command('remove')
      .description('Stop the server of a device. The disks keep their content and the remaps.')
      .argument('<name...>', 'of the devices')
      .option('-f, --force', 'although clients are connected')
      .option('--retry', 'accepted, and without effect'),
  )
    .addHelpText('after', example('nbd-remap dmsetup remove disk'))
    .action(async (names: string[], { force = false }: { force?: boolean }) => {
      const { removeDevice } = await import('./remove.js')
      for (const name of names) await removeDevice(name, force)
    })

const message = (): Command =>
  new Command('message')
    .description('Send a message to a device, and print what it answers.')
    .argument('<name>', 'of the device')
    .argument('<sector>', 'not used; 0')
    .argument('<message...>', 'help, add_remap MAIN SPARE LENGTH, ...')
    .addHelpText('after', example('nbd-remap dmsetup message disk 0 "add_remap 1000 5000 100"'))
    .action(async (name: string, sector: string, words: string[]) => {
      const { sendMessage } = await import('./show.js')
      await sendMessage(name, sector, words)
    })

const status = (): Command =>
  showing('status', 'Show the status line of a device, or of all.', 'statusOf').addHelpText(
    'after',
    `\nThe fields are explained in docs/DMSETUP.md.\n${example('nbd-remap dmsetup status disk')}`,
  )

const table = (): Command =>
  showing('table', 'Show the table of a device, or of all.', 'tableOf').addHelpText(
    'after',
    example('nbd-remap dmsetup table disk'),
  )

const info = (): Command =>
  showing('info', 'Show the state of a device, or of all, with its NBD URI.', 'infoOf').addHelpText(
    'after',
    example('nbd-remap dmsetup info disk'),
  )

const showing = (name: string, description: string, what: 'statusOf' | 'tableOf' | 'infoOf'): Command =>
  new Command(name)
    .description(description)
    .argument('[name]', 'of the device')
    .action(async (device: string | undefined) => {
      const show = await import('./show.js')
      await show[what](device)
    })

const ls = (): Command =>
  new Command('ls')
    .description('List the devices, with their NBD URIs.')
    .addHelpText('after', example('nbd-remap dmsetup ls'))
    .action(async () => {
      const { listDevices } = await import('./show.js')
      await listDevices()
    })

const targets = (): Command =>
  new Command('targets')
    .description('List the targets that a table may name.')
    .addHelpText('after', example('nbd-remap dmsetup targets'))
    .action(async () => {
      const { listTargets } = await import('./show.js')
      await listTargets()
    })

const suspend = (): Command =>
  withUdevOptions(
    new Command('suspend')
      .description('Finish and flush what is in flight, and hold all further requests until resume.')
      .argument('<name>', 'of the device')
      .option('--noflush', 'accepted, and without effect')
      .option('--nolockfs', 'accepted, and without effect'),
  )
    .addHelpText('after', example('nbd-remap dmsetup suspend disk'))
    .action(async (name: string) => {
      const { steerDevice } = await import('./show.js')
      await steerDevice(name, 'suspend')
    })

const resume = (): Command =>
  withUdevOptions(
    new Command('resume').description('Let the requests go on that suspend holds.').argument('<name>', 'of the device'),
  )
    .addHelpText('after', example('nbd-remap dmsetup resume disk'))
    .action(async (name: string) => {
      const { steerDevice } = await import('./show.js')
      await steerDevice(name, 'resume')
    })
