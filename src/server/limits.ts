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
   * Requests of one connection, from the arrival of the whole request until the kernel has taken the last byte of the
   * reply. Nothing more is read from a connection that has reached this or the next limit.
   */
  readonly requestsInFlightMax: number
  /** Payload bytes of these requests. The request that passes the limit is still served, so it may be exceeded by one. */
  readonly bytesInFlightMax: number
  /**
   * The same for all connections together. A connection with nothing in flight may always have one request: that, and
   * one WRITE still arriving on each connection, is what can come on top.
   */
  readonly bytesInFlightTotalMax: number
  /** A refused WRITE with a payload up to this is read to its end and answered; a longer one costs the connection. */
  readonly refusedPayloadMax: number
  /** How long `close()` waits for clients to take their last replies. */
  readonly closeTimeoutMs: number
}

export const DEFAULT_LIMITS: Limits = {
  clientsMax: 64,
  handshakeTimeoutMs: 10_000,
  optionsMax: 1024,
  optionLengthMax: 64 * KiB,
  requestsInFlightMax: 1024,
  bytesInFlightMax: 64 * MiB,
  bytesInFlightTotalMax: 512 * MiB,
  refusedPayloadMax: 256 * MiB,
  closeTimeoutMs: 5000,
}
