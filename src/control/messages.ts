/** What the data plane and the control thread say to each other. All of it can be cloned from thread to thread. */
import type { QmpErrorClass } from '../qmp/error.js'
import type { JsonObject } from '../qmp/message.js'
import type { KeptLevel } from '../util/log.js'
import type { SpareState } from './spare-commands.js'

/** A client of the NBD server, as the status shows it. */
export interface NbdClient {
  readonly id: number
  readonly address: string
  readonly exportName: string
  readonly since: Date
  readonly requestsInFlight: number
}

/** What does not change while the server runs, and where that which does can be read. */
export interface Facts {
  readonly version: string
  readonly exportName: string
  readonly uri: string
  readonly startedAt: Date
  readonly readOnly: boolean
  readonly blockSize: number
  /** Of the export, in bytes: that of main, or less. */
  readonly size: number
  readonly main: { readonly name: string; readonly location: string; readonly size: number }
  /** See `openStatistics`. */
  readonly statistics: SharedArrayBuffer
  /** See `openErrorCounts`. */
  readonly errors: SharedArrayBuffer
}

/** How a question ended. */
export type Answer =
  | { readonly kind: 'return'; readonly value: unknown }
  | { readonly kind: 'error'; readonly desc: string; readonly errorClass: QmpErrorClass }

export type ToControl =
  /** The disks are open. Commands wait for it. */
  | { readonly kind: 'facts'; readonly facts: Facts }
  /** All of them, whenever one comes or goes, and before the answer to HELLO. */
  | { readonly kind: 'clients'; readonly clients: readonly NbdClient[] }
  /** All of them, before the answer to HELLO. */
  | { readonly kind: 'spares'; readonly spares: readonly SpareState[] }
  | { readonly kind: 'log'; readonly level: KeptLevel; readonly message: string }
  | { readonly kind: 'event'; readonly event: string; readonly data: JsonObject }
  | { readonly kind: 'answer'; readonly id: number; readonly answer: Answer }

export interface Question {
  readonly kind: 'question'
  readonly id: number
  readonly operation: string
  readonly arguments: JsonObject
  /** Holds one of the values below. Whoever changes it from OPEN decides: the data plane takes it, or the asker gives up. */
  readonly claim: Int32Array
}

/** The operation that does nothing: an answer shows that the data plane runs. */
export const HELLO = 'hello'

export const OPEN = 0
export const TAKEN = 1
export const GIVEN_UP = 2

/** Shared memory for a `Question`. */
export const newClaim = (): Int32Array => new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))

/** @returns whether the claim was still open, and is the caller's now */
export const claimQuestion = (claim: Int32Array, as: typeof TAKEN | typeof GIVEN_UP): boolean =>
  Atomics.compareExchange(claim, 0, OPEN, as) === OPEN
