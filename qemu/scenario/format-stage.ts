/** The part of the format that says who plays: disks, servers, machines. */
import { duration, name, size } from './quantity.js'
import {
  byDefault,
  choice,
  described,
  flag,
  integer,
  json,
  list,
  object,
  optional,
  record,
  text,
  where,
  type OutOf,
  word,
} from './shape.js'

const MiB = 1024 * 1024

export const disk = described(
  'An image in the directory of the run.',
  where(
    object({
      size: described('Its size; it begins as zeros.', optional(size)),
      image: described('A file that it begins as a copy of; relative to the scenario file.', optional(text)),
      via: described(
        'How it is reached: as a file, or over NBD from a qemu-storage-daemon of its own, beneath which faults can be put.',
        byDefault(choice('file', 'storage-daemon'), 'file'),
      ),
    }),
    ({ size, image }) =>
      size === undefined && image === undefined ? "needs a 'size', or an 'image' to start from" : undefined,
  ),
)

export const server = described(
  'An nbd-remap serve.',
  object({
    main: described('Name of its main disk.', name),
    spares: described('Names of its spare disks.', list(name, 1)),
    replica: described('Name of the disk that is its replica.', optional(name)),
    supervise: described('It is started again when it dies.', byDefault(flag, true)),
    standbyOf: described(
      'Name of the server whose sockets it takes over when that one is gone or hangs: `nbd-remap serve --standby`.',
      optional(name),
    ),
    options: described(
      'More options of `nbd-remap serve`, by their names without dashes; true for those without a value.',
      byDefault(record(json), {}),
    ),
    start: described('When: before the first step, or by a step.', byDefault(choice('at-once', 'by-step'), 'at-once')),
  }),
)

const onError = choice('report', 'ignore', 'enospc', 'stop', 'auto')

export const drive = described(
  'A virtio-blk disk of a machine.',
  object({
    disk: described('Name of the server whose export it is, or of a disk.', name),
    node: described('Name of its block node in QEMU; that of the server or disk when not given.', optional(name)),
    reconnectDelay: described('How long requests wait for a lost connection to come back.', optional(duration)),
    werror: described('What QEMU does when a write fails.', optional(onError)),
    rerror: described('What QEMU does when a read fails.', optional(choice('report', 'ignore', 'stop', 'auto'))),
    device: described('More properties of the virtio-blk device.', byDefault(record(word), {})),
  }),
)

export const machine = described(
  'A QEMU virtual machine with the guest of images/.',
  object({
    drives: described('In this order vda, vdb, ...', list(drive)),
    memory: byDefault(size, 256 * MiB),
    cpus: byDefault(integer(1, 16), 1),
    accelerator: byDefault(choice('tcg', 'kvm'), 'tcg'),
    args: described('More arguments for QEMU.', byDefault(list(text), [])),
    start: described('When: before the first step, or by a step.', byDefault(choice('at-once', 'by-step'), 'at-once')),
  }),
)

export type DiskSettings = OutOf<typeof disk>
export type ServerSettings = OutOf<typeof server>
export type DriveSettings = OutOf<typeof drive>
export type MachineSettings = OutOf<typeof machine>
