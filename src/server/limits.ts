/** Every bound on what clients can make the server hold or wait for. */

import { KiB, MiB } from '../util/units.js'

export interface Limits {
  /** Connections, those counted too whose client is gone but whose requests the device has not answered yet. */
  readonly clientsMax: number
  /** From accepting a connection to the end of its handshake. */
  readonly handshakeTimeoutMs: number
  readonly optionsMax: number
  /** Data of one option; longer data is skipped and answered NBD_REP_ERR_TOO_BIG. */
  readonly optionLengthMax: number
  /**
   * Requests of one connection, from the arrival of the header until the kernel has taken the last byte of the reply.
   * Nothing more is read from a connection that has reached this.
   */
  readonly requestsInFlightMax: number
  /**
   * Payload bytes of these requests, counted from before the first byte of a payload is read. A connection that would
   * pass this is not read from; a single request may be larger. Half of `bytesSharedMax`: a single client that takes no
   * replies leaves the others enough for their requests.
   */
  readonly bytesInFlightMax: number
  /** Of these, what every connection has for itself, whatever the others hold. */
  readonly bytesOwnMax: number
  /**
   * What all connections together hold beyond their own bytes. A connection for which nothing is left is not read from. A
   * single larger request is served when nobody else holds anything of this.
   *
   * So payloads take at most clientsMax * bytesOwnMax + max(bytesSharedMax, 64 MiB) of memory. Beside them, a connection
   * has up to 816 KiB that were received and not looked at, or sent and not taken, and a unix socket up to 1 MiB in the kernel.
   */
  readonly bytesSharedMax: number
  /**
   * Pipes through which payloads of 64 KiB to 272 KiB go without being copied, each of 1 MiB of the kernel's memory at most.
   * A connection that sends such payloads has one for as long as it sends nothing else; without one they are copied. May be 0.
   */
  readonly pipesMax: number
  /** A refused WRITE with a payload up to this is read to its end and answered; a longer one costs the connection. */
  readonly refusedPayloadMax: number
  /**
   * How long a client may keep others waiting: one that holds bytes of the shared part, and sends or takes nothing, or
   * less than `bytesPerMsMin`, for so long is dropped. Only while somebody waits.
   */
  readonly stallTimeoutMs: number
  readonly bytesPerMsMin: number
  /** How long `close()` waits for clients to take their last replies, and how long a TLS client that ended its side may rest. */
  readonly closeTimeoutMs: number
  /** After how long without a word a TCP client is asked, by the kernel, whether it is still there. */
  readonly keepAliveDelayMs: number
}

export const DEFAULT_LIMITS: Limits = {
  clientsMax: 64,
  handshakeTimeoutMs: 10_000,
  optionsMax: 1024,
  optionLengthMax: 64 * KiB,
  requestsInFlightMax: 256,
  bytesInFlightMax: 8 * MiB,
  bytesOwnMax: 288 * KiB,
  bytesSharedMax: 16 * MiB,
  pipesMax: 32,
  refusedPayloadMax: 256 * MiB,
  stallTimeoutMs: 10_000,
  bytesPerMsMin: 2048,
  closeTimeoutMs: 5000,
  keepAliveDelayMs: 60_000,
}
