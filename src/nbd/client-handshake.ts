/**
 * The client's side of the fixed newstyle handshake: greeting, client flags, TLS if it is wanted, then NBD_OPT_GO, or
 * NBD_OPT_EXPORT_NAME for servers that do not know GO.
 *
 * Structured replies are not asked for, on purpose: once they are negotiated, QEMU's servers answer a READ that fails
 * by cutting the connection (unless each READ sets DF), and a disk with one bad sector could not be used. With simple
 * replies they answer NBD_EIO and go on.
 */

import { KiB, MiB, isPowerOfTwo } from '../util/units.js'
import { NbdProtocolError, NbdServerError, NbdTlsError } from './client-errors.js'
import { optionName, optionReplyName } from './names.js'
import {
  EXPORT_NAME_ZEROES,
  EXPORT_SIZE_LENGTH,
  GREETING_LENGTH,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_EXPORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_OPT_STARTTLS,
  NBD_REP_ACK,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_UNSUP,
  NBD_REP_FLAG_ERROR,
  NBD_REP_INFO,
  OPTION_REPLY_HEADER_LENGTH,
  decodeExportSize,
  decodeGreeting,
  decodeInfo,
  decodeOptionReplyHeader,
  encodeClientFlags,
  encodeInfoRequest,
  encodeOption,
} from './protocol.js'

/** Longest option reply taken: a name or message of 4096 bytes fits with room. */
const OPTION_REPLY_BYTES_MAX = 16 * KiB
/** Most NBD_REP_INFO replies to one NBD_OPT_GO; a handful exist. */
const INFO_REPLIES_MAX = 100
/** Largest `minimum` the specification allows. */
const MINIMUM_BLOCK_MAX = 64 * KiB
/** What the specification lets a client assume when the server does not say. */
const DEFAULT_BLOCK_SIZES: NbdBlockSizes = { minimum: 1, preferred: 4 * KiB, maximum: 32 * MiB }

/** The stream as the handshake needs it. `read` resolves with exactly that many bytes or rejects. */
export interface HandshakeStream {
  read(length: number): Promise<Buffer>
  write(data: Buffer): void
}

/** Encrypts the stream, with the same promises as `ClientSocket.secure`. */
export type Secure = () => Promise<void>

/** In bytes. "Block size constraints" of the specification. */
export interface NbdBlockSizes {
  readonly minimum: number
  readonly preferred: number
  /** Longest READ and WRITE. A server without a limit says 4294967295. */
  readonly maximum: number
}

/** What the handshake found out about the export. */
export interface NbdExport {
  /** In bytes. */
  readonly size: number
  /** NBD_FLAG_ bits; 0 when the server did not set NBD_FLAG_HAS_FLAGS. */
  readonly transmissionFlags: number
  readonly blockSizes: NbdBlockSizes
}

interface Reply {
  readonly type: number
  readonly data: Buffer
}

/**
 * Afterwards the connection is in the transmission phase.
 * @throws NbdServerError when the server refuses the export
 * @throws NbdTlsError when `secure` is given and the server cannot do TLS
 * @throws ProtocolError, NbdProtocolError
 */
export async function negotiate(stream: HandshakeStream, exportName: string, secure?: Secure): Promise<NbdExport> {
  const offered = decodeGreeting(await stream.read(GREETING_LENGTH))
  const fixedNewstyle = (offered & NBD_FLAG_FIXED_NEWSTYLE) !== 0
  const noZeroes = (offered & NBD_FLAG_NO_ZEROES) !== 0
  stream.write(
    encodeClientFlags((fixedNewstyle ? NBD_FLAG_C_FIXED_NEWSTYLE : 0) | (noZeroes ? NBD_FLAG_C_NO_ZEROES : 0)),
  )
  if (secure) await startTls(stream, fixedNewstyle, secure)
  const going = fixedNewstyle ? await go(stream, exportName) : undefined
  const found = going ?? (await nameExport(stream, exportName, noZeroes))
  if (!Number.isSafeInteger(found.size)) throw new NbdProtocolError('the export is larger than 2^53 bytes')
  return found
}

async function startTls(stream: HandshakeStream, fixedNewstyle: boolean, secure: Secure): Promise<void> {
  if (!fixedNewstyle) throw new NbdTlsError('the server is too old for TLS')
  stream.write(encodeOption(NBD_OPT_STARTTLS))
  const { type, data } = await readReply(stream, NBD_OPT_STARTTLS)
  if (type >= NBD_REP_FLAG_ERROR) throw new NbdTlsError(`the server refuses TLS: ${optionReplyName(type)}${said(data)}`)
  if (type !== NBD_REP_ACK) throw new NbdProtocolError(`${optionReplyName(type)} answers NBD_OPT_STARTTLS`)
  await secure()
}

/** @returns `undefined` when the server does not know NBD_OPT_GO */
async function go(stream: HandshakeStream, exportName: string): Promise<NbdExport | undefined> {
  stream.write(encodeOption(NBD_OPT_GO, encodeInfoRequest({ name: exportName, infos: [NBD_INFO_BLOCK_SIZE] })))
  let size: number | undefined
  let transmissionFlags = 0
  let blockSizes = DEFAULT_BLOCK_SIZES
  for (let replies = 0; replies < INFO_REPLIES_MAX; replies++) {
    const reply = await readReply(stream, NBD_OPT_GO)
    if (reply.type === NBD_REP_ERR_UNSUP) return undefined
    if (reply.type >= NBD_REP_FLAG_ERROR) throw refusal(reply, exportName)
    if (reply.type === NBD_REP_ACK) {
      if (size === undefined) throw new NbdProtocolError('NBD_OPT_GO was acknowledged without NBD_INFO_EXPORT')
      return { size, transmissionFlags, blockSizes }
    }
    if (reply.type !== NBD_REP_INFO) throw new NbdProtocolError(`${optionReplyName(reply.type)} answers NBD_OPT_GO`)
    const info = decodeInfo(reply.data)
    if (info?.type === NBD_INFO_EXPORT) ({ size, transmissionFlags } = info)
    if (info?.type === NBD_INFO_BLOCK_SIZE) blockSizes = checkBlockSizes(info)
  }
  throw new NbdProtocolError(`more than ${INFO_REPLIES_MAX} NBD_REP_INFO replies to NBD_OPT_GO`)
}

/** A server that refuses can only close the connection here. */
async function nameExport(stream: HandshakeStream, exportName: string, noZeroes: boolean): Promise<NbdExport> {
  stream.write(encodeOption(NBD_OPT_EXPORT_NAME, Buffer.from(exportName)))
  const found = decodeExportSize(await stream.read(EXPORT_SIZE_LENGTH))
  if (!noZeroes) await stream.read(EXPORT_NAME_ZEROES)
  return { ...found, blockSizes: DEFAULT_BLOCK_SIZES }
}

async function readReply(stream: HandshakeStream, option: number): Promise<Reply> {
  const header = decodeOptionReplyHeader(await stream.read(OPTION_REPLY_HEADER_LENGTH))
  if (header.option !== option) {
    throw new NbdProtocolError(`a reply to ${optionName(header.option)} answers ${optionName(option)}`)
  }
  if (header.length > OPTION_REPLY_BYTES_MAX) {
    throw new NbdProtocolError(`${optionReplyName(header.type)} is ${header.length} bytes long`)
  }
  return { type: header.type, data: await stream.read(header.length) }
}

function refusal({ type, data }: Reply, exportName: string): NbdServerError {
  const name = optionReplyName(type)
  const why = type === NBD_REP_ERR_TLS_REQD ? `${name}, so the URI must begin with nbds:// or nbds+unix://` : name
  return new NbdServerError(`the server refused the export '${exportName}': ${why}${said(data)}`, name, type)
}

function said(data: Buffer): string {
  const text = data.toString('utf8').trim()
  return text === '' ? '' : ` (the server says: ${JSON.stringify(text)})`
}

function checkBlockSizes({ minimum, preferred, maximum }: NbdBlockSizes): NbdBlockSizes {
  const sane = isPowerOfTwo(minimum) && minimum <= MINIMUM_BLOCK_MAX && isPowerOfTwo(preferred) && preferred >= minimum
  if (!sane || maximum < preferred) {
    throw new NbdProtocolError(`impossible block sizes: minimum ${minimum}, preferred ${preferred}, maximum ${maximum}`)
  }
  return { minimum, preferred, maximum }
}
