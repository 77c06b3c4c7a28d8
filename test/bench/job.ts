/**
 * What a job of the benchmark is. Either it compares our server with its peers (`compare`, the goal is a least ratio), or
 * it measures one figure of it that must stay below a bound (all other kinds).
 */
import type { Scope } from './scope.js'

export type PeerName = 'nbdkit' | 'qemu-nbd'
export type ServerName = 'nbd-remap' | PeerName

/** What the servers serve: see disks.ts. */
export type DiskName = 'file' | 'nbd' | 'slow-file'

/** fio's options of the same names. */
export interface Load {
  readonly rw: 'randread' | 'randwrite' | 'randrw' | 'read' | 'write'
  readonly bs: string
  /** Requests in flight on each connection. */
  readonly iodepth: number
  /** Connections; 1 when not given. */
  readonly numjobs?: number
  /** Percent of reads in `randrw`. */
  readonly rwmixread?: number
  /** Of the beginning of the disk; all of it when not given. */
  readonly size?: string
}

export interface CompareJob {
  readonly kind: 'compare'
  /** For `--jobs`. */
  readonly name: string
  readonly title: string
  readonly disk: DiskName
  readonly load: Load
  readonly peers: readonly PeerName[]
  /** At least this many times the requests per second of the best peer. */
  readonly goal: number
}

export interface BoundJob {
  /** `micro`: a function called in this process, without a server. */
  readonly kind: 'memory' | 'hang' | 'observed' | 'micro'
  readonly name: string
  readonly title: string
  readonly unit: string
  /** At most this. */
  readonly goal: number
  readonly measure: (context: Context) => Promise<Measured>
}

export type Job = CompareJob | BoundJob

export interface Context {
  /** Empty, with a path short enough for sockets. */
  readonly directory: string
  /** Ends and removes what the job leaves, whatever happens. */
  readonly scope: Scope
  readonly seconds: number
  /** Fires when the benchmark is interrupted. */
  readonly signal: AbortSignal
  /** Says what goes on. @throws the reason when the benchmark was interrupted */
  readonly step: (text: string) => void
}

export interface Measured {
  readonly value: number
  /** Of every query on the control socket meanwhile; empty where there is no server. */
  readonly controlLatenciesMs: readonly number[]
  /** What else was found out, for people. */
  readonly note: string
}

/** A query on the control socket is answered within this, 99 times of 100, during every job. */
export const CONTROL_P99_GOAL_MS = 100

/** The job needs something that this machine does not have. The message says what. */
export class NotRunError extends Error {
  override name = 'NotRunError'
}
