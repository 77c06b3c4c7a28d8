/** The package's `nbd-remap/nbd`: an NBD client, NBD URIs, and the wire format that client and server share. */

export { DEFAULT_CONNECT_TIMEOUT_MS } from './client-connect.js'
export { NbdConnectionError, NbdProtocolError, NbdServerError, NbdTlsError } from './client-errors.js'
export type { NbdBlockSizes } from './client-handshake.js'
export {
  DEFAULT_REQUESTS_IN_FLIGHT_MAX,
  NBD_REQUEST_LENGTH_MAX,
  NbdClient,
  type NbdClientOptions,
  type NbdFlags,
} from './client.js'
export * from './names.js'
export * from './protocol.js'
export {
  NBD_DEFAULT_PORT,
  type NbdAddress,
  type NbdCredentials,
  type NbdUri,
  NbdUriError,
  formatNbdUri,
  isNbdUri,
  parseNbdUri,
} from './uri.js'
