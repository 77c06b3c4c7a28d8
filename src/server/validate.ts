/**
 * Whether a request may go to the device: a pure decision, the specification's "Request types" as code. No request
 * outside the export, no flag that was not advertised and no write to a read-only export gets past it.
 */

import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_FLAG_REQ_ONE,
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
import type { ReplyStyle } from './negotiation.js'

/** What was negotiated and advertised on a connection. */
export interface Terms {
  /** Of the export, in bytes. */
  readonly size: number
  readonly readOnly: boolean
  readonly style: ReplyStyle
  /** The longest READ and WRITE, in bytes. */
  readonly payloadMax: number
  /** Metadata contexts selected. */
  readonly contextCount: number
}

/** The flags each command understands. FUA is accepted, and does nothing, on commands that change nothing. */
const FLAGS = new Map([
  [NBD_CMD_READ, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF],
  [NBD_CMD_WRITE, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_PAYLOAD_LEN],
  [NBD_CMD_FLUSH, NBD_CMD_FLAG_FUA],
  [NBD_CMD_TRIM, NBD_CMD_FLAG_FUA],
  [NBD_CMD_CACHE, NBD_CMD_FLAG_FUA],
  [NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO],
  [NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE | NBD_CMD_FLAG_PAYLOAD_LEN],
])

/** Of NBD_CMD_BLOCK_STATUS with a payload: the effect length, and an id of four bytes for each context meant. */
const STATUS_PAYLOAD_MIN = 8 + 4

/** Bytes that follow the header of a request, whatever is wrong with it. */
export function payloadLength({ type, flags, length }: Request, style: ReplyStyle): number {
  if (style === 'extended') return (flags & NBD_CMD_FLAG_PAYLOAD_LEN) === 0 ? 0 : length
  return type === NBD_CMD_WRITE ? length : 0
}

/**
 * @returns 0 when the request is fine, else the NBD error to answer. NBD_CMD_DISC has no answer and is not asked about. An
 * NBD_CMD_BLOCK_STATUS with a payload is judged without its range, for which see `validateRange`.
 */
export function validate(request: Request, terms: Terms): number {
  const { type, flags, length } = request
  const known = FLAGS.get(type)
  if (known === undefined || (flags & ~known) !== 0 || !hasItsPayload(request, terms)) return NBD_EINVAL
  if ((flags & NBD_CMD_FLAG_DF) !== 0 && terms.style === 'simple') return NBD_EINVAL
  // A flush has no range: its offset and length mean nothing.
  if (type === NBD_CMD_FLUSH) return 0
  if (type === NBD_CMD_BLOCK_STATUS && terms.contextCount === 0) return NBD_EINVAL
  if (terms.readOnly && changes(type)) return NBD_EPERM
  if ((type === NBD_CMD_READ || type === NBD_CMD_WRITE) && length > terms.payloadMax) return NBD_EINVAL
  if (type === NBD_CMD_BLOCK_STATUS && (flags & NBD_CMD_FLAG_PAYLOAD_LEN) !== 0) return 0
  return validateRange(request, terms)
}

/** @returns as `validate` */
export function validateRange({ type, offset, length }: Omit<Request, 'flags'>, { size }: Terms): number {
  // Every extent has a length, and there must be one.
  if (type === NBD_CMD_BLOCK_STATUS && length === 0) return NBD_EINVAL
  if (offset + length <= size) return 0
  return type === NBD_CMD_WRITE || type === NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC : NBD_EINVAL
}

const changes = (type: number): boolean =>
  type === NBD_CMD_WRITE || type === NBD_CMD_WRITE_ZEROES || type === NBD_CMD_TRIM

/** With extended headers WRITE must say that it has a payload, and BLOCK_STATUS may; without them nothing may say so. */
function hasItsPayload({ type, flags, length }: Request, { style, contextCount }: Terms): boolean {
  const saysSo = (flags & NBD_CMD_FLAG_PAYLOAD_LEN) !== 0
  if (style !== 'extended') return !saysSo
  if (type === NBD_CMD_WRITE) return saysSo
  if (!saysSo) return true
  return length >= STATUS_PAYLOAD_MIN && length <= STATUS_PAYLOAD_MIN + 4 * (contextCount - 1) && length % 4 === 0
}
