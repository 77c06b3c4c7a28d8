/** `nbd-remap attach-vm` and `detach-vm`: a running machine's disk behind the remapper, and off it again, in one command. */
import { Command, InvalidArgumentError, Option } from 'commander'
import { controlOption, DISK_HELP, jsonOption, optionalControlOption, parseLocation } from './options.js'

export const qmpOption = (): Option =>
  new Option('--qmp <address>', "QEMU's monitor: the path of its socket, or HOST:PORT").makeOptionMandatory()
export const reconnectOption = (): Option =>
  new Option('--reconnect-delay <seconds>', 'how long the machine waits for the server when it is away')
    .argParser(parseDelay)
    .default(60)
const deviceOption = (): Option =>
  new Option(
    '--device <id>',
    'the disk: id of its device, name of its -drive or of its block node',
  ).makeOptionMandatory()
const discardOption = (): Option =>
  new Option('--discard <mode>', "what becomes of the machine's TRIM requests")
    .choices(['unmap', 'ignore'])
    .default('unmap')
const dryRunOption = (): Option => new Option('--dry-run', 'change nothing, and print the QMP that would be sent')

export interface AttachVmOptions {
  readonly qmp: string
  readonly device: string
  readonly control?: string
  readonly uri?: string
  readonly main?: string
  readonly spare?: readonly string[]
  readonly create?: boolean
  readonly name?: string
  readonly copy?: boolean
  readonly sameContent?: boolean
  readonly reconnectDelay: number
  readonly discard: 'unmap' | 'ignore'
  readonly json?: boolean
  readonly dryRun?: boolean
}

export interface DetachVmOptions {
  readonly qmp: string
  readonly device: string
  readonly control: string
  readonly mirrorTo?: string
  readonly force?: boolean
  readonly clear?: boolean
  readonly keepServer?: boolean
  readonly blockdev?: Readonly<Record<string, unknown>>
  readonly discard: 'unmap' | 'ignore'
  readonly json?: boolean
  readonly dryRun?: boolean
}

const ATTACH_NOTES = `
With --spare, a server is started in the background for the disk that the machine has, supervised, with --on-exhausted pause; it is a
device of nbd-remap dmsetup, which lists and stops it. With --control, a server that runs is used, whose main disk has to be the
machine's disk, or, with --copy, another one that gets a copy. What follows -- are more options for the server that is started.

The machine stands still for some milliseconds, and not at all with --copy. When a step fails, everything is taken back. docs/LIVE-MACHINES.md
has the order of the steps, and why nothing is lost.

Exit codes: 0 attached, 1 failed and taken back, 2 wrong usage, 3 refused, because something would be lost.

Example:
  nbd-remap attach-vm --qmp /run/vm.qmp --device vd0 --spare /dev/sdc --create
  nbd-remap attach-vm --qmp /run/vm.qmp --device vd0 --control /run/disk.qmp --copy`

const DETACH_NOTES = `
Without --mirror-to the machine gets the server's main disk itself, and only if no block is remapped. The server is stopped afterwards.

Exit codes: 0 detached, 1 failed and taken back, 2 wrong usage, 3 refused, because something would be lost.

Example:
  nbd-remap detach-vm --qmp /run/vm.qmp --device vd0 --control /run/disk.qmp --clear
  nbd-remap detach-vm --qmp /run/vm.qmp --device vd0 --control /run/disk.qmp --mirror-to /dev/sdd`

export const attachVmCommand = (): Command =>
  new Command('attach-vm')
    .description("Put a running QEMU machine's disk behind the remapper.")
    .argument('[options...]', 'after --: more options of nbd-remap serve')
    .addOption(qmpOption())
    .addOption(deviceOption())
    .addOption(optionalControlOption('control socket of a server that runs'))
    .option('--uri <uri>', 'where the machine reaches that server, if not where it says itself')
    .addOption(
      new Option('--main <main>', `the machine's disk, where QEMU's name for it is not enough: ${DISK_HELP}`).argParser(
        parseLocation,
      ),
    )
    .addOption(
      new Option('--spare <spare>', `start a server with this spare; several make one pool: ${DISK_HELP}`).argParser(
        (value: string, previous: readonly string[] | undefined) => [...(previous ?? []), parseLocation(value)],
      ),
    )
    .option('--create', 'with --spare: format spares that are blank, and only those')
    .option('--name <name>', 'with --spare: of the server that is started (default: that of the device)')
    .option('--copy', "copy the machine's disk to the server's, whose content is overwritten (with --spare: to --main)")
    .option('--same-content', "answer for it that the server's disk is the machine's, where that cannot be seen")
    .addOption(reconnectOption())
    .addOption(discardOption())
    .addOption(jsonOption())
    .addOption(dryRunOption())
    .addHelpText('after', ATTACH_NOTES)
    .action(async (serveOptions: readonly string[], options: AttachVmOptions) => {
      const { attachVm } = await import('./live-machine.js')
      await attachVm(options, serveOptions)
    })

export const detachVmCommand = (): Command =>
  new Command('detach-vm')
    .description("Take the remapper off a running QEMU machine's disk again.")
    .addOption(qmpOption())
    .addOption(deviceOption())
    .addOption(controlOption())
    .option('--clear', 'move remapped blocks back to the main disk first, if it takes them')
    .addOption(
      new Option('--mirror-to <disk>', `copy all of it to a healthy disk, and use that: ${DISK_HELP}`).argParser(
        parseLocation,
      ),
    )
    .option('--force', 'with --mirror-to: overwrite a disk that is not blank')
    .option('--keep-server', 'let the server run on')
    .addOption(
      new Option(
        '--blockdev <json>',
        'more options of the block node, as QEMU has them: {"cache":{"direct":true}}',
      ).argParser(parseObject),
    )
    .addOption(discardOption())
    .addOption(jsonOption())
    .addOption(dryRunOption())
    .addHelpText('after', DETACH_NOTES)
    .action(async (options: DetachVmOptions) => {
      const { detachVm } = await import('./live-machine.js')
      await detachVm(options)
    })

function parseDelay(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError('It must be a whole number of seconds.')
  return Number(text)
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value = JSON.parse(text) as unknown
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  } catch {
    // Said below.
  }
  throw new InvalidArgumentError('It must be a JSON object.')
}
