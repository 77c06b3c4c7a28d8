/**
 * Whether a request may go to the device: a pure decision, the specification's "Request types" as code. No request
 * outside the export, no flag that was not advertised and no write to a read-only export gets past it.
 */

import {
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOSPC,
  NBD_EPERM,
  type Request,
} from '../nbd/protocol.js'

/** What was negotiated and advertised on a connection. */
export interface Terms {
  /** Of the export, in bytes. */
  readonly size: number
  readonly readOnly: boolean
  readonly structuredReplies: boolean
  /** The longest READ and WRITE, in bytes. */
  readonly payloadMax: number
}

/** The flags each command understands. FUA is accepted, and does nothing, on commands that change nothing. */
const FLAGS = new Map([
  [NBD_CMD_READ, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF],
  [NBD_CMD_WRITE, NBD_CMD_FLAG_FUA],
  [NBD_CMD_FLUSH, NBD_CMD_FLAG_FUA],
  [NBD_CMD_TRIM, NBD_CMD_FLAG_FUA],
  [NBD_CMD_CACHE, NBD_CMD_FLAG_FUA],
  [NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE],
])

/** @returns 0 when the request is fine, else the NBD error to answer. NBD_CMD_DISC has no answer and is not asked about. */
export function validate({ type, flags, offset, length }: Request, terms: Terms): number {
  const known = FLAGS.get(type)
  if (known === undefined || (flags & ~known) !== 0) return NBD_EINVAL
  if ((flags & NBD_CMD_FLAG_DF) !== 0 && !terms.structuredReplies) return NBD_EINVAL
  // A flush has no range: its offset and length mean nothing.
  if (type === NBD_CMD_FLUSH) return 0
  const changes = type !== NBD_CMD_READ && type !== NBD_CMD_CACHE
  if (changes && terms.readOnly) return NBD_EPERM
  if ((type === NBD_CMD_READ || type === NBD_CMD_WRITE) && length > terms.payloadMax) return NBD_EINVAL
  if (offset + length <= terms.size) return 0
  return type === NBD_CMD_WRITE || type === NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC : NBD_EINVAL
}
