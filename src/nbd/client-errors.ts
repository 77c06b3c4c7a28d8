/**
 * What an NBD client can fail with. Which of the three it is decides what helps: an `NbdServerError` concerns one
 * request and the connection lives on; after an `NbdConnectionError` or `NbdProtocolError` there is no connection any
 * more and nothing is known about the requests that were in flight.
 */

/** The server answered with an error: an NBD error value to a command, or an NBD_REP_ERR_ reply to an option. */
export class NbdServerError extends Error {
  override name = 'NbdServerError'
  constructor(
    message: string,
    /** `NBD_EIO`, `NBD_REP_ERR_UNKNOWN`, ... */
    readonly errorName: string,
    readonly errorValue: number,
  ) {
    super(message)
  }
}

/** The server sent what the protocol does not allow; the message says what and where. The connection was cut. */
export class NbdProtocolError extends Error {
  override name = 'NbdProtocolError'
}

/** The connection was refused, timed out, or lost; or it was ended by this side while requests were in flight. */
export class NbdConnectionError extends Error {
  override name = 'NbdConnectionError'
}

/** With this server there is no TLS, or no more: one of the two sides does not like the other's credentials, for example. */
export class NbdTlsError extends NbdConnectionError {
  override name = 'NbdTlsError'
}
