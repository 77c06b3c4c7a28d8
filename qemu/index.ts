/** The laboratory: QEMU, its storage daemon and other programs as scoped resources, and faults on demand. */

export { BLKDEBUG_RULES_MAX, FaultInjector, type FaultRule } from './faults.js'
export { Guest, GuestCommandError, GuestConnectionError, GuestTimeoutError, type GuestResult } from './guest.js'
export { guestImage, GuestImageError, type GuestImage } from './guest-image.js'
export { Machine, type MachineDrive, type MachineOptions, type NbdSource } from './machine.js'
export {
  DaemonProcess,
  LaunchError,
  socketAccepts,
  stdoutLine,
  type DaemonOptions,
  type Exit,
  type Ready,
} from './process.js'
export { findProgram, ProgramNotFoundError } from './program.js'
export { StorageDaemon, type StorageDaemonOptions, type StorageDisk } from './storage-daemon.js'
