import t, { type Test } from 'tap'
import * as nbd from '../../src/nbd/protocol.js'

/** Hex may be spaced by field, as the specification's tables list them. */
const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(/\s/g, ''), 'hex')
const hex = (data: Buffer): string => data.toString('hex')
const cookie = 0x1122334455667788n

/** Encodes into `golden`, decodes back to `value`. */
function golden<T>(
  t: Test,
  what: string,
  value: T,
  encode: (value: T) => Buffer,
  decode: (data: Buffer) => unknown,
  wanted: string,
): void {
  t.equal(hex(encode(value)), hex(bytes(wanted)), `${what} is encoded`)
  t.same(decode(bytes(wanted)), value, `${what} is decoded`)
}

/** For encoders that write into the caller's buffer. */
const into =
  <T>(length: number, encode: (into: Buffer, value: T) => void) =>
  (value: T): Buffer => {
    const buffer = Buffer.alloc(length, 0xee)
    encode(buffer, value)
    return buffer
  }

void t.test('handshake messages', (t) => {
  golden(t, 'greeting', 3, nbd.encodeGreeting, nbd.decodeGreeting, '4e42444d41474943 49484156454f5054 0003')
  golden(t, 'client flags', 3, nbd.encodeClientFlags, nbd.decodeClientFlags, '00000003')
  t.equal(hex(nbd.encodeOption(2)), '49484156454f50540000000200000000')
  t.equal(hex(nbd.encodeOption(1, Buffer.from('ab'))), '49484156454f505400000001000000026162')
  t.same(nbd.decodeOptionHeader(bytes('49484156454f5054 00000007 00010000')), { option: 7, length: 65536 })
  t.equal(hex(nbd.encodeOptionReply(7, nbd.NBD_REP_ACK)), '0003e889045565a9000000070000000100000000')
  t.same(nbd.decodeOptionReplyHeader(bytes('0003e889045565a9 00000063 80000001 00000005')), {
    option: 99,
    type: nbd.NBD_REP_ERR_UNSUP,
    length: 5,
  })
  t.end()
})

void t.test('option data', (t) => {
  const request = { name: 'main', infos: [nbd.NBD_INFO_BLOCK_SIZE, nbd.NBD_INFO_NAME] }
  golden(t, 'NBD_OPT_GO', request, nbd.encodeInfoRequest, nbd.decodeInfoRequest, '00000004 6d61696e 0002 0003 0001')
  golden(
    t,
    'NBD_OPT_SET_META_CONTEXT',
    { name: '', queries: [nbd.BASE_ALLOCATION] },
    nbd.encodeMetaContextRequest,
    nbd.decodeMetaContextRequest,
    '00000000 00000001 0000000f 626173653a616c6c6f636174696f6e',
  )
  golden(
    t,
    'NBD_REP_META_CONTEXT',
    { id: 1, name: 'base:' },
    nbd.encodeMetaContext,
    nbd.decodeMetaContext,
    '00000001 626173653a',
  )
  t.equal(hex(nbd.encodeServerReply('main', 'disk')), '000000046d61696e6469736b')
  t.same(nbd.decodeServerReply(bytes('00000004 6d61696e 6469736b')), { name: 'main', description: 'disk' })
  t.end()
})

void t.test('information', (t) => {
  const both = (what: string, info: nbd.Info, wanted: string) => {
    golden(t, what, info, nbd.encodeInfo, nbd.decodeInfo, wanted)
  }
  const export_: nbd.Info = { type: nbd.NBD_INFO_EXPORT, size: 0x1000000000, transmissionFlags: 0x5ed }
  both('NBD_INFO_EXPORT', export_, '0000 0000001000000000 05ed')
  both('NBD_INFO_NAME', { type: nbd.NBD_INFO_NAME, name: 'ä' }, '0001 c3a4')
  both('NBD_INFO_DESCRIPTION', { type: nbd.NBD_INFO_DESCRIPTION, description: 'x' }, '0002 78')
  const sizes: nbd.Info = { type: nbd.NBD_INFO_BLOCK_SIZE, minimum: 1, preferred: 4096, maximum: 0x4000000 }
  both('NBD_INFO_BLOCK_SIZE', sizes, '0003 00000001 00001000 04000000')
  t.equal(nbd.decodeInfo(bytes('0009 0102')), undefined, 'an unknown type is skipped')
  t.equal(hex(nbd.encodeExportSize(512, 1)), '00000000000002000001')
  t.same(nbd.decodeExportSize(bytes('0000000000000200 0001')), { size: 512, transmissionFlags: 1 })
  t.end()
})

void t.test('requests', (t) => {
  const request = { flags: nbd.NBD_CMD_FLAG_FUA, type: nbd.NBD_CMD_WRITE, cookie, offset: 0x123456789a, length: 4096 }
  const wanted = '25609513 0001 0001 1122334455667788 000000123456789a 00001000'
  golden(t, 'request', request, nbd.encodeRequest, nbd.decodeRequest, wanted)
  const extended = '21e41c71 0001 0001 1122334455667788 000000123456789a 0000000000001000'
  const sent = { ...request, sentOffset: 0x123456789an }
  golden(t, 'extended request', sent, nbd.encodeExtendedRequest, nbd.decodeExtendedRequest, extended)
  const far = '21e41c71 0000 0000 1122334455667788 ffffffffffffffff ffffffffffffffff'
  t.match(nbd.decodeExtendedRequest(bytes(far)), { offset: Infinity, length: Infinity, sentOffset: 2n ** 64n - 1n })
  golden(
    t,
    'payload of a block status',
    { length: 2 ** 40, contextIds: [1, 7] },
    nbd.encodeBlockStatusPayload,
    nbd.decodeBlockStatusPayload,
    '0000010000000000 00000001 00000007',
  )
  t.end()
})

void t.test('replies', (t) => {
  const simple = into(nbd.SIMPLE_REPLY_LENGTH, nbd.encodeSimpleReply)
  golden(t, 'reply', { error: 5, cookie }, simple, nbd.decodeSimpleReply, '67446698 00000005 1122334455667788')
  const chunk = { flags: nbd.NBD_REPLY_FLAG_DONE, type: nbd.NBD_REPLY_TYPE_OFFSET_DATA, cookie, length: 0x1008 }
  golden(
    t,
    'chunk header',
    chunk,
    into(nbd.CHUNK_HEADER_LENGTH, nbd.encodeChunkHeader),
    nbd.decodeChunkHeader,
    '668e33ef 0001 0001 1122334455667788 00001008',
  )
  golden(
    t,
    'extended chunk header',
    { ...chunk, offset: 0x200n },
    into(nbd.EXTENDED_CHUNK_HEADER_LENGTH, nbd.encodeExtendedChunkHeader),
    nbd.decodeExtendedChunkHeader,
    '6e8a278c 0001 0001 1122334455667788 0000000000000200 0000000000001008',
  )
  t.equal(nbd.decodeReplyMagic(bytes('67446698')), nbd.NBD_SIMPLE_REPLY_MAGIC)
  t.end()
})

void t.test('chunk payloads', (t) => {
  golden(
    t,
    'data offset',
    0x100000200,
    into(nbd.DATA_OFFSET_LENGTH, nbd.encodeDataOffset),
    nbd.decodeDataOffset,
    '0000000100000200',
  )
  golden(t, 'hole', { offset: 512, length: 1024 }, nbd.encodeHole, nbd.decodeHole, '0000000000000200 00000400')
  const error = (type: number) => (data: Buffer) => nbd.decodeErrorChunk(type, data)
  golden(
    t,
    'error',
    { error: nbd.NBD_EIO, message: 'bad' },
    nbd.encodeErrorChunk,
    error(nbd.NBD_REPLY_TYPE_ERROR),
    '00000005 0003 626164',
  )
  golden(
    t,
    'error with offset',
    { error: nbd.NBD_EIO, message: '', offset: 4096 },
    nbd.encodeErrorChunk,
    error(nbd.NBD_REPLY_TYPE_ERROR_OFFSET),
    '00000005 0000 0000000000001000',
  )
  const status = {
    contextId: 7,
    extents: [
      { length: 4096, flags: nbd.NBD_STATE_HOLE | nbd.NBD_STATE_ZERO },
      { length: 512, flags: 0 },
    ],
  }
  const wanted = '00000007 00001000 00000003 00000200 00000000'
  golden(t, 'block status', status, nbd.encodeBlockStatus, nbd.decodeBlockStatus, wanted)
  const extended = '00000007 00000002 0000000000001000 0000000000000003 0000000000000200 0000000000000000'
  golden(t, 'extended block status', status, nbd.encodeBlockStatusExt, nbd.decodeBlockStatusExt, extended)
  t.end()
})

void t.test('numbers of 64 bits are exact or Infinity, never wrapped', (t) => {
  const offsetOf = (offset: string) => nbd.decodeDataOffset(bytes(offset))
  t.equal(offsetOf('001fffffffffffff'), Number.MAX_SAFE_INTEGER)
  t.equal(offsetOf('0020000000000000'), Infinity)
  t.equal(offsetOf('8000000000000000'), Infinity)
  t.equal(offsetOf('ffffffffffffffff'), Infinity)
  const edge = Buffer.alloc(8)
  nbd.encodeDataOffset(edge, Number.MAX_SAFE_INTEGER)
  t.equal(hex(edge), '001fffffffffffff')
  const request = '25609513 0000 0000 ffffffffffffffff ffffffffffffffff ffffffff'
  t.match(nbd.decodeRequest(bytes(request)), { offset: Infinity, length: 0xffffffff, cookie: 0xffffffffffffffffn })
  t.end()
})

void t.test('a wrong magic is an error', (t) => {
  const zeros = Buffer.alloc(64)
  const decoders = [
    nbd.decodeGreeting,
    nbd.decodeOptionHeader,
    nbd.decodeOptionReplyHeader,
    nbd.decodeRequest,
    nbd.decodeExtendedRequest,
    nbd.decodeSimpleReply,
    nbd.decodeChunkHeader,
    nbd.decodeExtendedChunkHeader,
  ]
  for (const decode of decoders) t.throws(() => decode(zeros), nbd.ProtocolError, decode.name)
  const oldStyle = bytes('4e42444d41474943 0000420281861253 0000')
  t.throws(() => nbd.decodeGreeting(oldStyle), { message: 'bad newstyle magic 0x420281861253' })
  t.end()
})

void t.test('messages cut short anywhere are errors', (t) => {
  const cut = (what: string, whole: Buffer, decode: (data: Buffer) => unknown) => {
    t.doesNotThrow(() => decode(whole), `${what}, whole`)
    for (let length = 0; length < whole.length; length++) {
      t.throws(() => decode(whole.subarray(0, length)), nbd.ProtocolError, `${what}, ${length} bytes of it`)
    }
  }
  cut('NBD_OPT_GO', bytes('00000004 6d61696e 0002 0003 0001'), nbd.decodeInfoRequest)
  cut('NBD_OPT_SET_META_CONTEXT', bytes('00000001 61 00000002 00000001 62 00000001 63'), nbd.decodeMetaContextRequest)
  cut('NBD_INFO_EXPORT', bytes('0000 0000001000000000 05ed'), nbd.decodeInfo)
  cut('NBD_REPLY_TYPE_OFFSET_HOLE', bytes('0000000000000200 00000400'), nbd.decodeHole)
  cut('NBD_REPLY_TYPE_BLOCK_STATUS', bytes('00000007 00001000 00000003'), nbd.decodeBlockStatus)
  t.throws(() => nbd.decodeBlockStatusPayload(Buffer.alloc(7)), nbd.ProtocolError)
  t.throws(() => nbd.decodeBlockStatusPayload(Buffer.alloc(14)), nbd.ProtocolError)
  const error = (data: Buffer) => nbd.decodeErrorChunk(nbd.NBD_REPLY_TYPE_ERROR_OFFSET, data)
  cut('NBD_REPLY_TYPE_ERROR_OFFSET', bytes('00000005 0003 626164 0000000000001000'), error)
  t.end()
})

void t.test('counts and lengths that lie are errors', (t) => {
  const request = (data: string) => () => nbd.decodeInfoRequest(bytes(data))
  t.throws(request('00000004 6d61696e 0001 0003 0001'), nbd.ProtocolError, 'more data than the count says')
  t.throws(request('ffffffff 6d61696e 0000'), nbd.ProtocolError)
  const queries = (data: string) => () => nbd.decodeMetaContextRequest(bytes(data))
  t.throws(queries('00000000 ffffffff 00000001 61'), nbd.ProtocolError)
  t.throws(queries('00000000 00000000 61'), nbd.ProtocolError, 'data after the last query')
  const status = '00000007 00000003 0000000000001000 0000000000000003'
  t.throws(() => nbd.decodeBlockStatusExt(bytes(status)), nbd.ProtocolError)
  t.end()
})

void t.test('text for people is cut between characters', (t) => {
  t.equal(nbd.encodeText('short').toString(), 'short')
  t.equal(nbd.encodeText('a'.repeat(5000)).length, 4096)
  t.equal(nbd.encodeText('ä'.repeat(3000)).toString(), 'ä'.repeat(2048))
  t.equal(nbd.encodeText(`a${'ä'.repeat(3000)}`).toString(), `a${'ä'.repeat(2047)}`)
  t.equal(nbd.encodeText('\ud800').toString(), '\ufffd', 'half a character is none')
  const { message } = nbd.decodeErrorChunk(
    nbd.NBD_REPLY_TYPE_ERROR,
    nbd.encodeErrorChunk({ error: 5, message: 'x'.repeat(70_000) }),
  )
  t.equal(message.length, 4096)
  t.end()
})

void t.test('strings are UTF-8, without NUL, and at most 4096 bytes', (t) => {
  t.equal(nbd.decodeString(bytes('c3a4')), 'ä')
  t.throws(() => nbd.decodeString(bytes('c3')), nbd.ProtocolError)
  t.throws(() => nbd.decodeString(bytes('6100')), nbd.ProtocolError)
  t.equal(nbd.decodeString(Buffer.alloc(4096, 'a')).length, 4096)
  t.throws(() => nbd.decodeString(Buffer.alloc(4097, 'a')), nbd.ProtocolError)
  t.end()
})
