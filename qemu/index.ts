/**
 * The laboratory (docs/LAB.md): `lab()` with all that scenario files can say, and below it QEMU, its storage daemon and other programs
 * as scoped resources, and faults on demand.
 */

export { beyondBlkdebug, BeyondBlkdebugError, sectorRules } from './blkdebug.js'
export { BLKDEBUG_RULES_MAX, FaultInjector, type SectorRule } from './faults.js'
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
export { lab, Lab, type CheckInput, type CheckResult, type LabOptions } from './lab/lab.js'
export { ExpectationError, LabError } from './lab/error.js'
export { UsageError } from '../src/util/errors.js'
export type { LabEvent } from './lab/events.js'
export type { LabDisk } from './lab/disk.js'
export type { LabMachine } from './lab/lab-machine.js'
export type { LabServer } from './lab/server.js'
export type { LabWorkload } from './lab/workload.js'
export { ScenarioFile, ScenarioFileError } from './scenario/document.js'
export { runScenario, type RunOptions } from './scenario/run.js'
export type { RunRecord } from './report/index.js'
