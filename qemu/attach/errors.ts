/** What attaching and detaching can fail with, beside the errors of QMP. */
import { RefusedError } from '../../src/util/errors.js'

/** It would lose or overwrite something, or cannot be known to be safe. Nothing was changed. */
export class AttachRefusedError extends RefusedError {
  override name = 'AttachRefusedError'
}

/** A step failed. `undone`: the machine is as it was; else the message says what is left to do. */
export class AttachError extends Error {
  override name = 'AttachError'
  constructor(
    message: string,
    readonly undone: boolean,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}
