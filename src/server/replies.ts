/**
 * How replies look on the wire: one encoder for connections with simple replies, one for those with chunks, whose headers
 * are structured or extended. Each reply is one buffer; that of a READ has room for the data behind its head, so that the
 * device reads to where the kernel takes it from.
 */

import {
  CHUNK_HEADER_LENGTH,
  DATA_OFFSET_LENGTH,
  EXTENDED_CHUNK_HEADER_LENGTH,
  NBD_CMD_READ,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_ERROR_OFFSET,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  SIMPLE_REPLY_LENGTH,
  encodeBlockStatus,
  encodeBlockStatusExt,
  encodeChunkHeader,
  encodeDataOffset,
  encodeErrorChunk,
  encodeExtendedChunkHeader,
  encodeSimpleReply,
  type BlockStatus,
  type ChunkHeader,
  type ErrorChunk,
  type ExtendedRequest,
  type Request,
} from '../nbd/protocol.js'
import { InvariantError } from '../util/assert.js'
import type { BufferPool } from './buffer-pool.js'
import type { ReplyStyle } from './negotiation.js'
import { Slab } from './slab.js'

export interface Replies {
  /** Bytes before the data in the reply to a READ. */
  readonly readHeadLength: number
  /** A buffer for the reply to a READ. The head is written last, when the data is there. */
  allocateRead(request: Request): Buffer
  encodeReadHead(request: Request, reply: Buffer): void
  /** Without data. */
  success(request: Request): Buffer
  failure(request: Request, error: ErrorChunk): Buffer
  blockStatus(request: Request, statuses: readonly BlockStatus[]): Buffer
}

/** @param pool where large buffers come from, and have to go again once the reply has left */
export const repliesFor = (style: ReplyStyle, pool: BufferPool): Replies =>
  style === 'simple' ? new SimpleReplies(pool) : new ChunkReplies(style === 'extended', pool)

class SimpleReplies implements Replies {
  readonly readHeadLength = SIMPLE_REPLY_LENGTH
  readonly #slab: Slab

  constructor(pool: BufferPool) {
    this.#slab = new Slab(pool)
  }

  allocateRead({ length }: Request): Buffer {
    return this.#slab.allocate(SIMPLE_REPLY_LENGTH + length)
  }

  encodeReadHead({ cookie }: Request, reply: Buffer): void {
    encodeSimpleReply(reply, { error: 0, cookie })
  }

  success({ cookie }: Request): Buffer {
    return this.#simple(cookie, 0)
  }

  failure({ cookie }: Request, { error }: ErrorChunk): Buffer {
    return this.#simple(cookie, error)
  }

  blockStatus(): Buffer {
    throw new InvariantError('invariant broken: a block status without chunks')
  }

  #simple(cookie: bigint, error: number): Buffer {
    const reply = this.#slab.allocate(SIMPLE_REPLY_LENGTH)
    encodeSimpleReply(reply, { error, cookie })
    return reply
  }
}

class ChunkReplies implements Replies {
  readonly readHeadLength: number
  readonly #headerLength: number
  readonly #isExtended: boolean
  readonly #slab: Slab

  constructor(isExtended: boolean, pool: BufferPool) {
    this.#slab = new Slab(pool)
    this.#isExtended = isExtended
    this.#headerLength = isExtended ? EXTENDED_CHUNK_HEADER_LENGTH : CHUNK_HEADER_LENGTH
    this.readHeadLength = this.#headerLength + DATA_OFFSET_LENGTH
  }

  allocateRead({ length }: Request): Buffer {
    return this.#slab.allocate(this.readHeadLength + length)
  }

  encodeReadHead(request: Request, reply: Buffer): void {
    const { cookie, offset, length } = request
    const type = NBD_REPLY_TYPE_OFFSET_DATA
    this.#encodeHeader(reply, request, {
      flags: NBD_REPLY_FLAG_DONE,
      type,
      cookie,
      length: DATA_OFFSET_LENGTH + length,
    })
    encodeDataOffset(reply, offset, this.#headerLength)
  }

  /** Without extended headers only READ needs a chunk. */
  success(request: Request): Buffer {
    const { type, cookie } = request
    if (!this.#isExtended && type !== NBD_CMD_READ) {
      const reply = this.#slab.allocate(SIMPLE_REPLY_LENGTH)
      encodeSimpleReply(reply, { error: 0, cookie })
      return reply
    }
    const reply = this.#slab.allocate(this.#headerLength)
    this.#encodeHeader(reply, request, { flags: NBD_REPLY_FLAG_DONE, type: NBD_REPLY_TYPE_NONE, cookie, length: 0 })
    return reply
  }

  failure(request: Request, error: ErrorChunk): Buffer {
    const type = error.offset === undefined ? NBD_REPLY_TYPE_ERROR : NBD_REPLY_TYPE_ERROR_OFFSET
    return this.#chunk(request, NBD_REPLY_FLAG_DONE, type, encodeErrorChunk(error))
  }

  blockStatus(request: Request, statuses: readonly BlockStatus[]): Buffer {
    const type = this.#isExtended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS
    const encode = this.#isExtended ? encodeBlockStatusExt : encodeBlockStatus
    const chunks = statuses.map((status, i) => {
      const flags = i === statuses.length - 1 ? NBD_REPLY_FLAG_DONE : 0
      return this.#chunk(request, flags, type, encode(status))
    })
    return Buffer.concat(chunks)
  }

  #chunk(request: Request, flags: number, type: number, payload: Buffer): Buffer {
    const header = Buffer.allocUnsafe(this.#headerLength)
    this.#encodeHeader(header, request, { flags, type, cookie: request.cookie, length: payload.length })
    return Buffer.concat([header, payload])
  }

  #encodeHeader(into: Buffer, request: Request, header: ChunkHeader): void {
    if (this.#isExtended) encodeExtendedChunkHeader(into, { ...header, offset: sentOffset(request) })
    else encodeChunkHeader(into, header)
  }
}

/** With extended headers, requests were decoded by `decodeExtendedRequest`. */
const sentOffset = (request: Request | ExtendedRequest): bigint =>
  'sentOffset' in request ? request.sentOffset : BigInt(request.offset)
