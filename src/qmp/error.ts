/**
 * What a QMP client can fail with, one class per cause, and the error that a monitor's command handler throws.
 * A `QmpCommandError` says that the server refused one command; the connection is as good as before.
 */

/** The error classes of QMP. New programs look at `desc` only for people, never to decide. */
export type QmpErrorClass = 'GenericError' | 'CommandNotFound' | 'DeviceNotActive' | 'DeviceNotFound' | 'KVMMissingCap'

/** Base of everything that `QmpClient` throws. */
export class QmpError extends Error {
  override name = 'QmpError'
}

/** The server answered a command with `error`. */
export class QmpCommandError extends QmpError {
  override name = 'QmpCommandError'
  constructor(
    readonly command: string,
    /** As the server sent it: usually a `QmpErrorClass`, but servers may have others. */
    readonly errorClass: string,
    readonly desc: string,
  ) {
    super(`${command}: ${desc}`)
  }
}

/** No greeting, answer or event within the time that the caller gave. */
export class QmpTimeoutError extends QmpError {
  override name = 'QmpTimeoutError'
}

/** The connection could not be made, was lost, or was closed by this side. */
export class QmpConnectionError extends QmpError {
  override name = 'QmpConnectionError'
}

/** There is no connection at present: the command was not sent. */
export class QmpDisconnectedError extends QmpConnectionError {
  override name = 'QmpDisconnectedError'
}

/** The peer sent something that is not QMP; the connection is closed. */
export class QmpProtocolError extends QmpConnectionError {
  override name = 'QmpProtocolError'
}

/** A job failed, was cancelled, or vanished. */
export class QmpJobError extends QmpError {
  override name = 'QmpJobError'
  constructor(
    /** That started it. */
    readonly command: string,
    readonly jobId: string,
    /** In QEMU's words. */
    readonly desc: string,
    options?: ErrorOptions,
  ) {
    super(`${command}: job '${jobId}': ${desc}`, options)
  }
}

/** Thrown by a command's handler or argument check: becomes the `error` member of the reply. */
export class QmpReplyError extends Error {
  override name = 'QmpReplyError'
  constructor(
    readonly desc: string,
    readonly errorClass: QmpErrorClass = 'GenericError',
  ) {
    super(desc)
  }
}
