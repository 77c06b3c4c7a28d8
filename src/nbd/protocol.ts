/**
 * The NBD wire format, all of it and nothing else: every constant under the specification's own name (doc/proto.md of
 * NetworkBlockDevice/nbd and its extended-headers extension), and for each message its encoder beside its decoder.
 * `names.ts` turns the constants into words for logs.
 *
 * Everything is big-endian. Offsets and sizes are 64 bits wide on the wire and numbers here: one above
 * `Number.MAX_SAFE_INTEGER` decodes to `Infinity`, which no bounds check lets through, and is never rounded or wrapped.
 * Decoders throw `ProtocolError` for what cannot be what it claims to be; they never read beyond the given bytes.
 */

import { isUtf8 } from 'node:buffer'

/** The peer sent bytes that are not the message they should be. */
export class ProtocolError extends Error {
  override name = 'ProtocolError'
}

// Handshake
export const NBDMAGIC = 0x4e42444d41474943n
export const IHAVEOPT = 0x49484156454f5054n
export const NBD_REP_MAGIC = 0x0003e889045565a9n

export const NBD_FLAG_FIXED_NEWSTYLE = 1 << 0
export const NBD_FLAG_NO_ZEROES = 1 << 1
export const NBD_FLAG_C_FIXED_NEWSTYLE = 1 << 0
export const NBD_FLAG_C_NO_ZEROES = 1 << 1

export const NBD_OPT_EXPORT_NAME = 1
export const NBD_OPT_ABORT = 2
export const NBD_OPT_LIST = 3
export const NBD_OPT_PEEK_EXPORT = 4
export const NBD_OPT_STARTTLS = 5
export const NBD_OPT_INFO = 6
export const NBD_OPT_GO = 7
export const NBD_OPT_STRUCTURED_REPLY = 8
export const NBD_OPT_LIST_META_CONTEXT = 9
export const NBD_OPT_SET_META_CONTEXT = 10
export const NBD_OPT_EXTENDED_HEADERS = 11

export const NBD_REP_ACK = 1
export const NBD_REP_SERVER = 2
export const NBD_REP_INFO = 3
export const NBD_REP_META_CONTEXT = 4
/** Set in the type of every option reply that is an error. */
export const NBD_REP_FLAG_ERROR = 2 ** 31
export const NBD_REP_ERR_UNSUP = NBD_REP_FLAG_ERROR + 1
export const NBD_REP_ERR_POLICY = NBD_REP_FLAG_ERROR + 2
export const NBD_REP_ERR_INVALID = NBD_REP_FLAG_ERROR + 3
export const NBD_REP_ERR_PLATFORM = NBD_REP_FLAG_ERROR + 4
export const NBD_REP_ERR_TLS_REQD = NBD_REP_FLAG_ERROR + 5
export const NBD_REP_ERR_UNKNOWN = NBD_REP_FLAG_ERROR + 6
export const NBD_REP_ERR_SHUTDOWN = NBD_REP_FLAG_ERROR + 7
export const NBD_REP_ERR_BLOCK_SIZE_REQD = NBD_REP_FLAG_ERROR + 8
export const NBD_REP_ERR_TOO_BIG = NBD_REP_FLAG_ERROR + 9
export const NBD_REP_ERR_EXT_HEADER_REQD = NBD_REP_FLAG_ERROR + 10

export const NBD_INFO_EXPORT = 0
export const NBD_INFO_NAME = 1
export const NBD_INFO_DESCRIPTION = 2
export const NBD_INFO_BLOCK_SIZE = 3

export const NBD_FLAG_HAS_FLAGS = 1 << 0
export const NBD_FLAG_READ_ONLY = 1 << 1
export const NBD_FLAG_SEND_FLUSH = 1 << 2
export const NBD_FLAG_SEND_FUA = 1 << 3
export const NBD_FLAG_ROTATIONAL = 1 << 4
export const NBD_FLAG_SEND_TRIM = 1 << 5
export const NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6
export const NBD_FLAG_SEND_DF = 1 << 7
export const NBD_FLAG_CAN_MULTI_CONN = 1 << 8
export const NBD_FLAG_SEND_RESIZE = 1 << 9
export const NBD_FLAG_SEND_CACHE = 1 << 10
export const NBD_FLAG_SEND_FAST_ZERO = 1 << 11
export const NBD_FLAG_BLOCK_STATUS_PAYLOAD = 1 << 12

// Transmission
export const NBD_REQUEST_MAGIC = 0x25609513
export const NBD_SIMPLE_REPLY_MAGIC = 0x67446698
export const NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef
export const NBD_EXTENDED_REQUEST_MAGIC = 0x21e41c71
export const NBD_EXTENDED_REPLY_MAGIC = 0x6e8a278c

export const NBD_CMD_READ = 0
export const NBD_CMD_WRITE = 1
export const NBD_CMD_DISC = 2
export const NBD_CMD_FLUSH = 3
export const NBD_CMD_TRIM = 4
export const NBD_CMD_CACHE = 5
export const NBD_CMD_WRITE_ZEROES = 6
export const NBD_CMD_BLOCK_STATUS = 7
export const NBD_CMD_RESIZE = 8

export const NBD_CMD_FLAG_FUA = 1 << 0
export const NBD_CMD_FLAG_NO_HOLE = 1 << 1
export const NBD_CMD_FLAG_DF = 1 << 2
export const NBD_CMD_FLAG_REQ_ONE = 1 << 3
export const NBD_CMD_FLAG_FAST_ZERO = 1 << 4
export const NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5

export const NBD_REPLY_FLAG_DONE = 1 << 0
export const NBD_REPLY_TYPE_NONE = 0
export const NBD_REPLY_TYPE_OFFSET_DATA = 1
export const NBD_REPLY_TYPE_OFFSET_HOLE = 2
export const NBD_REPLY_TYPE_BLOCK_STATUS = 5
export const NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6
/** Set in the type of every chunk that reports an error. */
export const NBD_REPLY_TYPE_FLAG_ERROR = 1 << 15
export const NBD_REPLY_TYPE_ERROR = NBD_REPLY_TYPE_FLAG_ERROR + 1
export const NBD_REPLY_TYPE_ERROR_OFFSET = NBD_REPLY_TYPE_FLAG_ERROR + 2

export const BASE_ALLOCATION = 'base:allocation'
export const NBD_STATE_HOLE = 1 << 0
export const NBD_STATE_ZERO = 1 << 1

export const NBD_EPERM = 1
export const NBD_EIO = 5
export const NBD_ENOMEM = 12
export const NBD_EINVAL = 22
export const NBD_ENOSPC = 28
export const NBD_EOVERFLOW = 75
export const NBD_ENOTSUP = 95
export const NBD_ESHUTDOWN = 108

/** The longest string the protocol allows, in bytes. */
export const NBD_MAX_STRING = 4096

// Pieces
const TWO_TO_32 = 2 ** 32
const HIGH_WORD_MAX = 2 ** 21

function readU64(from: Buffer, at: number): number {
  const high = from.readUInt32BE(at)
  return high < HIGH_WORD_MAX ? high * TWO_TO_32 + from.readUInt32BE(at + 4) : Infinity
}

function writeU64(into: Buffer, value: number, at: number): void {
  into.writeUInt32BE(Math.floor(value / TWO_TO_32), at)
  into.writeUInt32BE(value % TWO_TO_32, at + 4)
}

function expect(condition: boolean, what: string): asserts condition {
  if (!condition) throw new ProtocolError(what)
}

/** @throws ProtocolError */
export function expectMagic(actual: number | bigint, wanted: number | bigint, what: string): void {
  expect(actual === wanted, `bad ${what} magic 0x${actual.toString(16)}`)
}

/** UTF-8, no NUL, at most 4096 bytes. @throws ProtocolError */
export function decodeString(data: Buffer): string {
  expect(data.length <= NBD_MAX_STRING, `a string of ${data.length} bytes is too long`)
  expect(isUtf8(data) && !data.includes(0), 'a string is not UTF-8 without NUL')
  return data.toString()
}

/** The bytes of `text`, at most 4096 of them and cut between characters: for what people read, never for names. */
export function encodeText(text: string): Buffer {
  const bytes = Buffer.from(text)
  let end = Math.min(bytes.length, NBD_MAX_STRING)
  // A byte 10xxxxxx goes on with the character before it.
  while (end < bytes.length && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--
  return bytes.subarray(0, end)
}

/** A string with its length in 32 bits before it. */
function encodeSizedString(text: string): Buffer {
  const bytes = Buffer.from(text)
  const size = Buffer.alloc(4)
  size.writeUInt32BE(bytes.length)
  return Buffer.concat([size, bytes])
}

function decodeSizedString(data: Buffer, at: number, what: string): { text: string; end: number } {
  expect(data.length >= at + 4, `${what} is cut short`)
  const end = at + 4 + data.readUInt32BE(at)
  expect(end <= data.length, `${what} is longer than its message`)
  return { text: decodeString(data.subarray(at + 4, end)), end }
}

// Handshake: the server's greeting and the client's flags
export const GREETING_LENGTH = 18

export function encodeGreeting(handshakeFlags: number): Buffer {
  const greeting = Buffer.alloc(GREETING_LENGTH)
  greeting.writeBigUInt64BE(NBDMAGIC, 0)
  greeting.writeBigUInt64BE(IHAVEOPT, 8)
  greeting.writeUInt16BE(handshakeFlags, 16)
  return greeting
}

/** @returns the handshake flags. @throws ProtocolError, also for a server of the old style */
export function decodeGreeting(greeting: Buffer): number {
  expectMagic(greeting.readBigUInt64BE(0), NBDMAGIC, 'server')
  expectMagic(greeting.readBigUInt64BE(8), IHAVEOPT, 'newstyle')
  return greeting.readUInt16BE(16)
}

export const CLIENT_FLAGS_LENGTH = 4

export function encodeClientFlags(flags: number): Buffer {
  const data = Buffer.alloc(CLIENT_FLAGS_LENGTH)
  data.writeUInt32BE(flags)
  return data
}

export const decodeClientFlags = (data: Buffer): number => data.readUInt32BE(0)

// Handshake: options
export const OPTION_HEADER_LENGTH = 16

export interface OptionHeader {
  readonly option: number
  /** Bytes of data that follow. */
  readonly length: number
}

export function encodeOption(option: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(OPTION_HEADER_LENGTH)
  header.writeBigUInt64BE(IHAVEOPT, 0)
  header.writeUInt32BE(option, 8)
  header.writeUInt32BE(data.length, 12)
  return Buffer.concat([header, data])
}

export function decodeOptionHeader(header: Buffer): OptionHeader {
  expectMagic(header.readBigUInt64BE(0), IHAVEOPT, 'option')
  return { option: header.readUInt32BE(8), length: header.readUInt32BE(12) }
}

export const OPTION_REPLY_HEADER_LENGTH = 20

export interface OptionReplyHeader {
  readonly option: number
  readonly type: number
  readonly length: number
}

export function encodeOptionReply(option: number, type: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(OPTION_REPLY_HEADER_LENGTH)
  header.writeBigUInt64BE(NBD_REP_MAGIC, 0)
  header.writeUInt32BE(option, 8)
  header.writeUInt32BE(type, 12)
  header.writeUInt32BE(data.length, 16)
  return Buffer.concat([header, data])
}

export function decodeOptionReplyHeader(header: Buffer): OptionReplyHeader {
  expectMagic(header.readBigUInt64BE(0), NBD_REP_MAGIC, 'option reply')
  return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), length: header.readUInt32BE(16) }
}

/** Data of NBD_REP_SERVER. What follows the name is for people. */
export const encodeServerReply = (name: string, description = ''): Buffer =>
  Buffer.concat([encodeSizedString(name), encodeText(description)])

export function decodeServerReply(data: Buffer): { name: string; description: string } {
  const { text, end } = decodeSizedString(data, 0, 'the export name')
  return { name: text, description: decodeString(data.subarray(end)) }
}

/** Data of NBD_OPT_INFO and NBD_OPT_GO. */
export interface InfoRequest {
  readonly name: string
  /** NBD_INFO_ types the client asks for. */
  readonly infos: readonly number[]
}

export function encodeInfoRequest({ name, infos }: InfoRequest): Buffer {
  const list = Buffer.alloc(2 + 2 * infos.length)
  list.writeUInt16BE(infos.length)
  infos.forEach((info, i) => list.writeUInt16BE(info, 2 + 2 * i))
  return Buffer.concat([encodeSizedString(name), list])
}

export function decodeInfoRequest(data: Buffer): InfoRequest {
  const { text, end } = decodeSizedString(data, 0, 'the export name')
  expect(data.length >= end + 2, 'the list of information requests is cut short')
  const count = data.readUInt16BE(end)
  expect(data.length === end + 2 + 2 * count, 'the list of information requests has another length than it says')
  return { name: text, infos: Array.from({ length: count }, (_, i) => data.readUInt16BE(end + 2 + 2 * i)) }
}

/** Data of NBD_REP_INFO. */
export type Info =
  | { readonly type: typeof NBD_INFO_EXPORT; readonly size: number; readonly transmissionFlags: number }
  | { readonly type: typeof NBD_INFO_NAME; readonly name: string }
  | { readonly type: typeof NBD_INFO_DESCRIPTION; readonly description: string }
  | {
      readonly type: typeof NBD_INFO_BLOCK_SIZE
      readonly minimum: number
      readonly preferred: number
      readonly maximum: number
    }

export function encodeInfo(info: Info): Buffer {
  const type = Buffer.alloc(2)
  type.writeUInt16BE(info.type)
  return Buffer.concat([type, encodeInfoPayload(info)])
}

function encodeInfoPayload(info: Info): Buffer {
  switch (info.type) {
    case NBD_INFO_EXPORT:
      return encodeExportSize(info.size, info.transmissionFlags)
    case NBD_INFO_NAME:
      return Buffer.from(info.name)
    case NBD_INFO_DESCRIPTION:
      return encodeText(info.description)
    case NBD_INFO_BLOCK_SIZE: {
      const sizes = Buffer.alloc(12)
      sizes.writeUInt32BE(info.minimum, 0)
      sizes.writeUInt32BE(info.preferred, 4)
      sizes.writeUInt32BE(info.maximum, 8)
      return sizes
    }
  }
}

/** @returns `undefined` for a type that is not known, which the specification says to ignore. */
export function decodeInfo(data: Buffer): Info | undefined {
  expect(data.length >= 2, 'an information reply is cut short')
  const type = data.readUInt16BE(0)
  const payload = data.subarray(2)
  switch (type) {
    case NBD_INFO_EXPORT:
      expect(payload.length === EXPORT_SIZE_LENGTH, 'NBD_INFO_EXPORT has a wrong length')
      return { type, ...decodeExportSize(payload) }
    case NBD_INFO_NAME:
      return { type, name: decodeString(payload) }
    case NBD_INFO_DESCRIPTION:
      return { type, description: decodeString(payload) }
    case NBD_INFO_BLOCK_SIZE: {
      expect(payload.length === 12, 'NBD_INFO_BLOCK_SIZE has a wrong length')
      const [minimum, preferred, maximum] = [payload.readUInt32BE(0), payload.readUInt32BE(4), payload.readUInt32BE(8)]
      return { type, minimum, preferred, maximum }
    }
    default:
      return undefined
  }
}

/** Size and transmission flags, as in NBD_INFO_EXPORT and in the answer to NBD_OPT_EXPORT_NAME. */
export const EXPORT_SIZE_LENGTH = 10
/** Follow the answer to NBD_OPT_EXPORT_NAME unless NBD_FLAG_C_NO_ZEROES was negotiated. */
export const EXPORT_NAME_ZEROES = 124

export function encodeExportSize(size: number, transmissionFlags: number): Buffer {
  const data = Buffer.alloc(EXPORT_SIZE_LENGTH)
  writeU64(data, size, 0)
  data.writeUInt16BE(transmissionFlags, 8)
  return data
}

export const decodeExportSize = (data: Buffer): { size: number; transmissionFlags: number } => ({
  size: readU64(data, 0),
  transmissionFlags: data.readUInt16BE(8),
})

/** Data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
export interface MetaContextRequest {
  readonly name: string
  readonly queries: readonly string[]
}

export function encodeMetaContextRequest({ name, queries }: MetaContextRequest): Buffer {
  const count = Buffer.alloc(4)
  count.writeUInt32BE(queries.length)
  return Buffer.concat([encodeSizedString(name), count, ...queries.map(encodeSizedString)])
}

export function decodeMetaContextRequest(data: Buffer): MetaContextRequest {
  const name = decodeSizedString(data, 0, 'the export name')
  expect(data.length >= name.end + 4, 'the list of queries is cut short')
  const count = data.readUInt32BE(name.end)
  const queries: string[] = []
  let at = name.end + 4
  // A count that lies runs into the end of the data at once, whatever it says.
  for (let i = 0; i < count; i++) {
    const { text, end } = decodeSizedString(data, at, 'a query')
    queries.push(text)
    at = end
  }
  expect(at === data.length, 'the list of queries has another length than it says')
  return { name: name.text, queries }
}

/** Data of NBD_REP_META_CONTEXT. */
export interface MetaContext {
  readonly id: number
  readonly name: string
}

export function encodeMetaContext({ id, name }: MetaContext): Buffer {
  const data = Buffer.alloc(4)
  data.writeUInt32BE(id)
  return Buffer.concat([data, Buffer.from(name)])
}

export function decodeMetaContext(data: Buffer): MetaContext {
  expect(data.length >= 4, 'a meta context is cut short')
  return { id: data.readUInt32BE(0), name: decodeString(data.subarray(4)) }
}

// Transmission: requests
export const REQUEST_HEADER_LENGTH = 28
export const EXTENDED_REQUEST_HEADER_LENGTH = 32

export interface Request {
  readonly flags: number
  readonly type: number
  /** Opaque: echoed in every reply to this request. */
  readonly cookie: bigint
  /** Bytes; `Infinity` when the client sent more than fits a number. */
  readonly offset: number
  /** Bytes, of the payload that follows if the command has one. */
  readonly length: number
}

export function encodeRequest({ flags, type, cookie, offset, length }: Request): Buffer {
  const header = Buffer.allocUnsafe(REQUEST_HEADER_LENGTH)
  header.writeUInt32BE(NBD_REQUEST_MAGIC, 0)
  header.writeUInt16BE(flags, 4)
  header.writeUInt16BE(type, 6)
  header.writeBigUInt64BE(cookie, 8)
  writeU64(header, offset, 16)
  header.writeUInt32BE(length, 24)
  return header
}

export function decodeRequest(header: Buffer): Request {
  expectMagic(header.readUInt32BE(0), NBD_REQUEST_MAGIC, 'request')
  return {
    flags: header.readUInt16BE(4),
    type: header.readUInt16BE(6),
    cookie: header.readBigUInt64BE(8),
    offset: readU64(header, 16),
    length: header.readUInt32BE(24),
  }
}

export function encodeExtendedRequest({ flags, type, cookie, offset, length }: Request): Buffer {
  const header = Buffer.allocUnsafe(EXTENDED_REQUEST_HEADER_LENGTH)
  header.writeUInt32BE(NBD_EXTENDED_REQUEST_MAGIC, 0)
  header.writeUInt16BE(flags, 4)
  header.writeUInt16BE(type, 6)
  header.writeBigUInt64BE(cookie, 8)
  writeU64(header, offset, 16)
  writeU64(header, length, 24)
  return header
}

/** What replies to it need besides. */
export interface ExtendedRequest extends Request {
  /** The offset as it was sent, whether or not it fits a number: replies repeat it. */
  readonly sentOffset: bigint
}

export function decodeExtendedRequest(header: Buffer): ExtendedRequest {
  expectMagic(header.readUInt32BE(0), NBD_EXTENDED_REQUEST_MAGIC, 'extended request')
  return {
    flags: header.readUInt16BE(4),
    type: header.readUInt16BE(6),
    cookie: header.readBigUInt64BE(8),
    offset: readU64(header, 16),
    sentOffset: header.readBigUInt64BE(16),
    length: readU64(header, 24),
  }
}

/** Payload of NBD_CMD_BLOCK_STATUS with NBD_CMD_FLAG_PAYLOAD_LEN: a status of some of the contexts only. */
export interface BlockStatusPayload {
  /** Bytes of the export that the client asks about. */
  readonly length: number
  readonly contextIds: readonly number[]
}

export function encodeBlockStatusPayload({ length, contextIds }: BlockStatusPayload): Buffer {
  const payload = Buffer.alloc(8 + 4 * contextIds.length)
  writeU64(payload, length, 0)
  contextIds.forEach((id, i) => payload.writeUInt32BE(id, 8 + 4 * i))
  return payload
}

export function decodeBlockStatusPayload(payload: Buffer): BlockStatusPayload {
  expect(payload.length >= 8 && payload.length % 4 === 0, 'the payload of NBD_CMD_BLOCK_STATUS has a wrong length')
  const contextIds = Array.from({ length: (payload.length - 8) / 4 }, (_, i) => payload.readUInt32BE(8 + 4 * i))
  return { length: readU64(payload, 0), contextIds }
}

// Transmission: replies. Encoders write into the caller's buffer, so that a header and its payload can be one buffer.
export const SIMPLE_REPLY_LENGTH = 16

export interface SimpleReply {
  /** 0 or an NBD error. */
  readonly error: number
  readonly cookie: bigint
}

export function encodeSimpleReply(into: Buffer, { error, cookie }: SimpleReply): void {
  into.writeUInt32BE(NBD_SIMPLE_REPLY_MAGIC, 0)
  into.writeUInt32BE(error, 4)
  into.writeBigUInt64BE(cookie, 8)
}

export function decodeSimpleReply(header: Buffer): SimpleReply {
  expectMagic(header.readUInt32BE(0), NBD_SIMPLE_REPLY_MAGIC, 'simple reply')
  return { error: header.readUInt32BE(4), cookie: header.readBigUInt64BE(8) }
}

/** Simple replies and structured reply chunks come mixed on one connection: their magic tells them apart. */
export const decodeReplyMagic = (header: Buffer): number => header.readUInt32BE(0)

export const CHUNK_HEADER_LENGTH = 20
export const EXTENDED_CHUNK_HEADER_LENGTH = 32

/** Header of a structured reply chunk. */
export interface ChunkHeader {
  readonly flags: number
  readonly type: number
  readonly cookie: bigint
  /** Bytes of payload that follow. */
  readonly length: number
}

export function encodeChunkHeader(into: Buffer, { flags, type, cookie, length }: ChunkHeader): void {
  into.writeUInt32BE(NBD_STRUCTURED_REPLY_MAGIC, 0)
  into.writeUInt16BE(flags, 4)
  into.writeUInt16BE(type, 6)
  into.writeBigUInt64BE(cookie, 8)
  into.writeUInt32BE(length, 16)
}

export function decodeChunkHeader(header: Buffer): ChunkHeader {
  expectMagic(header.readUInt32BE(0), NBD_STRUCTURED_REPLY_MAGIC, 'structured reply')
  return {
    flags: header.readUInt16BE(4),
    type: header.readUInt16BE(6),
    cookie: header.readBigUInt64BE(8),
    length: header.readUInt32BE(16),
  }
}

/** With extended headers every reply is a chunk, and its header repeats the offset of the request. */
export interface ExtendedChunkHeader extends ChunkHeader {
  readonly offset: bigint
}

export function encodeExtendedChunkHeader(into: Buffer, chunk: ExtendedChunkHeader): void {
  into.writeUInt32BE(NBD_EXTENDED_REPLY_MAGIC, 0)
  into.writeUInt16BE(chunk.flags, 4)
  into.writeUInt16BE(chunk.type, 6)
  into.writeBigUInt64BE(chunk.cookie, 8)
  into.writeBigUInt64BE(chunk.offset, 16)
  writeU64(into, chunk.length, 24)
}

export function decodeExtendedChunkHeader(header: Buffer): ExtendedChunkHeader {
  expectMagic(header.readUInt32BE(0), NBD_EXTENDED_REPLY_MAGIC, 'extended reply')
  return {
    flags: header.readUInt16BE(4),
    type: header.readUInt16BE(6),
    cookie: header.readBigUInt64BE(8),
    offset: header.readBigUInt64BE(16),
    length: readU64(header, 24),
  }
}

/** NBD_REPLY_TYPE_OFFSET_DATA: this offset, then the data. */
export const DATA_OFFSET_LENGTH = 8

export const encodeDataOffset = (into: Buffer, offset: number, at = 0): void => {
  writeU64(into, offset, at)
}
export const decodeDataOffset = (payload: Buffer): number => readU64(payload, 0)

/** NBD_REPLY_TYPE_OFFSET_HOLE. */
export interface Hole {
  readonly offset: number
  readonly length: number
}

export function encodeHole({ offset, length }: Hole): Buffer {
  const payload = Buffer.alloc(12)
  writeU64(payload, offset, 0)
  payload.writeUInt32BE(length, 8)
  return payload
}

export function decodeHole(payload: Buffer): Hole {
  expect(payload.length === 12, 'NBD_REPLY_TYPE_OFFSET_HOLE has a wrong length')
  return { offset: readU64(payload, 0), length: payload.readUInt32BE(8) }
}

/** NBD_REPLY_TYPE_ERROR, and with an offset NBD_REPLY_TYPE_ERROR_OFFSET. */
export interface ErrorChunk {
  readonly error: number
  readonly message: string
  readonly offset?: number
}

export function encodeErrorChunk({ error, message, offset }: ErrorChunk): Buffer {
  const text = encodeText(message)
  const payload = Buffer.alloc(6 + text.length + (offset === undefined ? 0 : 8))
  payload.writeUInt32BE(error, 0)
  payload.writeUInt16BE(text.length, 4)
  text.copy(payload, 6)
  if (offset !== undefined) writeU64(payload, offset, 6 + text.length)
  return payload
}

export function decodeErrorChunk(type: number, payload: Buffer): ErrorChunk {
  const offsetLength = type === NBD_REPLY_TYPE_ERROR_OFFSET ? 8 : 0
  expect(payload.length >= 6 + offsetLength, 'an error chunk is cut short')
  const end = 6 + payload.readUInt16BE(4)
  expect(end + offsetLength <= payload.length, 'the message of an error chunk is longer than the chunk')
  const error = payload.readUInt32BE(0)
  const message = payload.toString('utf8', 6, end)
  return offsetLength === 0 ? { error, message } : { error, message, offset: readU64(payload, end) }
}

export interface Extent {
  readonly length: number
  /** For `base:allocation`: NBD_STATE_HOLE and NBD_STATE_ZERO. */
  readonly flags: number
}

/** NBD_REPLY_TYPE_BLOCK_STATUS. */
export interface BlockStatus {
  readonly contextId: number
  readonly extents: readonly Extent[]
}

export function encodeBlockStatus({ contextId, extents }: BlockStatus): Buffer {
  const payload = Buffer.alloc(4 + 8 * extents.length)
  payload.writeUInt32BE(contextId, 0)
  extents.forEach(({ length, flags }, i) => {
    payload.writeUInt32BE(length, 4 + 8 * i)
    payload.writeUInt32BE(flags, 8 + 8 * i)
  })
  return payload
}

export function decodeBlockStatus(payload: Buffer): BlockStatus {
  expect(payload.length >= 12 && payload.length % 8 === 4, 'NBD_REPLY_TYPE_BLOCK_STATUS has a wrong length')
  const extents = Array.from({ length: (payload.length - 4) / 8 }, (_, i) => ({
    length: payload.readUInt32BE(4 + 8 * i),
    flags: payload.readUInt32BE(8 + 8 * i),
  }))
  return { contextId: payload.readUInt32BE(0), extents }
}

/** NBD_REPLY_TYPE_BLOCK_STATUS_EXT: the same with 64-bit lengths and flags, and a count. */
export function encodeBlockStatusExt({ contextId, extents }: BlockStatus): Buffer {
  const payload = Buffer.alloc(8 + 16 * extents.length)
  payload.writeUInt32BE(contextId, 0)
  payload.writeUInt32BE(extents.length, 4)
  extents.forEach(({ length, flags }, i) => {
    writeU64(payload, length, 8 + 16 * i)
    writeU64(payload, flags, 16 + 16 * i)
  })
  return payload
}

export function decodeBlockStatusExt(payload: Buffer): BlockStatus {
  expect(payload.length >= 24 && payload.length % 16 === 8, 'NBD_REPLY_TYPE_BLOCK_STATUS_EXT has a wrong length')
  const count = (payload.length - 8) / 16
  expect(payload.readUInt32BE(4) === count, 'NBD_REPLY_TYPE_BLOCK_STATUS_EXT has another count than it says')
  const extents = Array.from({ length: count }, (_, i) => ({
    length: readU64(payload, 8 + 16 * i),
    flags: readU64(payload, 16 + 16 * i),
  }))
  return { contextId: payload.readUInt32BE(0), extents }
}
