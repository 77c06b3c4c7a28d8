/**
 * The server's side of the fixed newstyle handshake ("Handshake phase" of the specification), as a parser that is fed
 * bytes and knows nothing of sockets. An option that is unknown, malformed or too long gets an error reply and the next
 * one is parsed; only what the specification demands ends the connection.
 */

import type { ByteReader } from '../nbd/byte-reader.js'
import { optionName } from '../nbd/names.js'
import {
  CLIENT_FLAGS_LENGTH,
  EXPORT_NAME_ZEROES,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_EXPORT,
  NBD_INFO_NAME,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ACK,
  NBD_REP_ERR_EXT_HEADER_REQD,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_POLICY,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_TOO_BIG,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
  NBD_REP_INFO,
  NBD_REP_META_CONTEXT,
  NBD_REP_SERVER,
  OPTION_HEADER_LENGTH,
  ProtocolError,
  decodeClientFlags,
  decodeInfoRequest,
  decodeMetaContextRequest,
  decodeOptionHeader,
  decodeString,
  encodeExportSize,
  encodeGreeting,
  encodeInfo,
  encodeMetaContext,
  encodeOptionReply,
  encodeServerReply,
  encodeText,
  type Info,
  type MetaContextRequest,
  type OptionHeader,
} from '../nbd/protocol.js'
import { advertisedBlockSizes, findExport, transmissionFlags, type Export } from './export.js'
import type { Limits } from './limits.js'
import { listContexts, selectContexts } from './meta-context.js'
import { Negotiation, type Negotiated } from './negotiation.js'

/**
 * How a handshake ends: in the transmission phase, in a closed connection once what was sent has left, or, with
 * `starttls`, in another handshake (`secured`) over TLS.
 */
export type HandshakeResult =
  | { readonly kind: 'transmission'; readonly export: Export; readonly negotiated: Negotiated }
  | { readonly kind: 'close'; readonly reason: string }
  | { readonly kind: 'starttls' }

/** What NBD_OPT_STARTTLS means to a client: not here, if you like, before anything else, or it is done already. */
export type TlsState = 'off' | 'on' | 'required' | 'active'

/** Messages to clients are bounded as all strings of the protocol, and logs should stay readable. */
const QUOTED_MAX = 100
const quote = (name: string): string =>
  JSON.stringify(name.length > QUOTED_MAX ? `${name.slice(0, QUOTED_MAX)}...` : name)

const close = (reason: string): HandshakeResult => ({ kind: 'close', reason })

const KNOWN_CLIENT_FLAGS = NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES

export class Handshake {
  readonly #exports: readonly Export[]
  readonly #limits: Pick<Limits, 'optionsMax' | 'optionLengthMax'>
  readonly #send: (data: Buffer) => void
  readonly #tls: TlsState
  /** Undefined until the client has sent them. */
  #clientFlags: number | undefined
  #option: OptionHeader | undefined
  #optionCount = 0
  /** Bytes of an option too long to be kept that are still to come. */
  #toSkip = 0
  readonly #negotiation = new Negotiation()

  /** Sends the greeting at once, unless it goes on from `unsecured`. */
  constructor(
    exports: readonly Export[],
    limits: Pick<Limits, 'optionsMax' | 'optionLengthMax'>,
    send: (data: Buffer) => void,
    tls: TlsState = 'off',
    unsecured?: Handshake,
  ) {
    this.#exports = exports
    this.#limits = limits
    this.#send = send
    this.#tls = tls
    if (unsecured === undefined) {
      send(encodeGreeting(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES))
    } else {
      this.#clientFlags = unsecured.#clientFlags
      this.#optionCount = unsecured.#optionCount
    }
  }

  /** How it goes on over TLS. Being a new one it forgets, as it must, whatever was negotiated without. */
  secured(): Handshake {
    return new Handshake(this.#exports, this.#limits, this.#send, 'active', this)
  }

  /**
   * Takes what it can from `reader`, unless the client does not take the answers: `isFull`.
   * @returns undefined while the handshake goes on
   */
  advance(reader: ByteReader, isFull = () => false): HandshakeResult | undefined {
    try {
      for (;;) {
        if (isFull()) return undefined
        const step = this.#step(reader)
        if (step !== 'next') return step
      }
    } catch (error) {
      if (error instanceof ProtocolError) return close(error.message)
      throw error
    }
  }

  /** One message. @returns undefined when it has not arrived as a whole */
  #step(reader: ByteReader): HandshakeResult | 'next' | undefined {
    if (this.#clientFlags === undefined) return this.#takeClientFlags(reader)
    if (this.#option === undefined) return this.#takeOptionHeader(reader)
    if (this.#toSkip > 0) return this.#skipOptionData(this.#option, reader)
    if (reader.available < this.#option.length) return undefined
    const { option, length } = this.#option
    this.#option = undefined
    return this.#answer(option, reader.consume(length)) ?? 'next'
  }

  #takeClientFlags(reader: ByteReader): HandshakeResult | 'next' | undefined {
    if (reader.available < CLIENT_FLAGS_LENGTH) return undefined
    this.#clientFlags = decodeClientFlags(reader.consume(CLIENT_FLAGS_LENGTH))
    const unknown = (this.#clientFlags & ~KNOWN_CLIENT_FLAGS) >>> 0
    return unknown === 0 ? 'next' : close(`unknown client flags 0x${unknown.toString(16)}`)
  }

  #takeOptionHeader(reader: ByteReader): HandshakeResult | 'next' | undefined {
    if (reader.available < OPTION_HEADER_LENGTH) return undefined
    const header = decodeOptionHeader(reader.consume(OPTION_HEADER_LENGTH))
    this.#optionCount++
    if (this.#optionCount > this.#limits.optionsMax) return close(`more than ${this.#limits.optionsMax} options`)
    this.#option = header
    this.#toSkip = header.length > this.#limits.optionLengthMax ? header.length : 0
    return 'next'
  }

  #skipOptionData({ option, length }: OptionHeader, reader: ByteReader): HandshakeResult | 'next' | undefined {
    const skipped = Math.min(this.#toSkip, reader.available)
    reader.skip(skipped)
    this.#toSkip -= skipped
    if (this.#toSkip > 0) return undefined
    this.#option = undefined
    return this.#answerTooLong(option, length) ?? 'next'
  }

  /** As `#answer`, but for data that was not kept. */
  #answerTooLong(option: number, length: number): HandshakeResult | undefined {
    if (option !== NBD_OPT_EXPORT_NAME && this.#needsTls(option)) return undefined
    switch (option) {
      case NBD_OPT_EXPORT_NAME:
        return close(`an export name of ${length} bytes`)
      case NBD_OPT_SET_META_CONTEXT:
        this.#negotiation.unselect()
        break
      case NBD_OPT_INFO:
      case NBD_OPT_GO:
      case NBD_OPT_LIST_META_CONTEXT:
        break
      default:
        // Of these it matters only that there is data.
        return this.#answer(option, Buffer.alloc(1))
    }
    this.#fail(option, NBD_REP_ERR_TOO_BIG, `${length} bytes of option data are too many`)
    return undefined
  }

  #answer(option: number, data: Buffer): HandshakeResult | undefined {
    if (this.#needsTls(option)) {
      return option === NBD_OPT_EXPORT_NAME ? close('an export asked for without TLS') : undefined
    }
    switch (option) {
      case NBD_OPT_STARTTLS:
        return this.#startTls(option, data)
      case NBD_OPT_EXPORT_NAME:
        return this.#exportName(data)
      case NBD_OPT_ABORT:
        this.#reply(option, NBD_REP_ACK)
        return close('aborted by the client')
      case NBD_OPT_LIST:
        this.#list(option, data)
        return undefined
      case NBD_OPT_INFO:
      case NBD_OPT_GO:
        return this.#infoOrGo(option, data)
      case NBD_OPT_STRUCTURED_REPLY:
        this.#structured(option, data)
        return undefined
      case NBD_OPT_EXTENDED_HEADERS:
        this.#extended(option, data)
        return undefined
      case NBD_OPT_LIST_META_CONTEXT:
        this.#listContexts(option, data)
        return undefined
      case NBD_OPT_SET_META_CONTEXT:
        this.#setContexts(option, data)
        return undefined
      default:
        this.#fail(option, NBD_REP_ERR_UNSUP, `${optionName(option)} is not supported`)
        return undefined
    }
  }

  /** Refuses what is not allowed before TLS. "TLS support", mode FORCEDTLS. */
  #needsTls(option: number): boolean {
    if (this.#tls !== 'required' || option === NBD_OPT_STARTTLS || option === NBD_OPT_ABORT) return false
    if (option !== NBD_OPT_EXPORT_NAME) this.#fail(option, NBD_REP_ERR_TLS_REQD, 'start TLS first')
    return true
  }

  #startTls(option: number, data: Buffer): HandshakeResult | undefined {
    if (this.#tls === 'off') this.#fail(option, NBD_REP_ERR_POLICY, 'TLS is switched off here')
    else if (this.#tls === 'active') this.#fail(option, NBD_REP_ERR_INVALID, 'TLS is active already')
    else if (!this.#refuseData(option, data)) {
      this.#reply(option, NBD_REP_ACK)
      return { kind: 'starttls' }
    }
    return undefined
  }

  /** The one option without an error reply: what cannot be served is answered by closing. */
  #exportName(data: Buffer): HandshakeResult {
    if (this.#negotiation.style === 'extended') return close('NBD_OPT_EXPORT_NAME after NBD_OPT_EXTENDED_HEADERS')
    const name = decodeString(data)
    const found = findExport(this.#exports, name)
    if (found === undefined) return close(`no export ${quote(name)}`)
    const negotiated = this.#negotiation.resultFor(name)
    const noZeroes = ((this.#clientFlags ?? 0) & NBD_FLAG_C_NO_ZEROES) !== 0
    const size = encodeExportSize(found.device.size, transmissionFlags(found, negotiated))
    this.#send(noZeroes ? size : Buffer.concat([size, Buffer.alloc(EXPORT_NAME_ZEROES)]))
    return { kind: 'transmission', export: found, negotiated }
  }

  #list(option: number, data: Buffer): void {
    if (this.#refuseData(option, data)) return
    for (const { name, description } of this.#exports) {
      this.#reply(option, NBD_REP_SERVER, encodeServerReply(name, description))
    }
    this.#reply(option, NBD_REP_ACK)
  }

  #structured(option: number, data: Buffer): void {
    if (this.#refuseData(option, data)) return
    if (this.#negotiation.style === 'extended') {
      this.#fail(option, NBD_REP_ERR_EXT_HEADER_REQD, 'extended headers are negotiated already')
      return
    }
    this.#negotiation.useStructuredReplies()
    this.#reply(option, NBD_REP_ACK)
  }

  #extended(option: number, data: Buffer): void {
    if (this.#refuseData(option, data)) return
    this.#negotiation.useExtendedHeaders()
    this.#reply(option, NBD_REP_ACK)
  }

  #listContexts(option: number, data: Buffer): void {
    const request = this.#contextRequest(option, data)
    if (request === undefined) return
    for (const { name } of listContexts(request.export, request.queries)) {
      this.#reply(option, NBD_REP_META_CONTEXT, encodeMetaContext({ id: 0, name }))
    }
    this.#reply(option, NBD_REP_ACK)
  }

  /** Forgets what was selected before, also when it fails. */
  #setContexts(option: number, data: Buffer): void {
    this.#negotiation.unselect()
    const request = this.#contextRequest(option, data)
    if (request === undefined) return
    const selected = selectContexts(request.export, request.queries)
    this.#negotiation.select(request.name, selected)
    for (const { id, context } of selected) {
      this.#reply(option, NBD_REP_META_CONTEXT, encodeMetaContext({ id, name: context.name }))
    }
    this.#reply(option, NBD_REP_ACK)
  }

  #contextRequest(option: number, data: Buffer): (MetaContextRequest & { readonly export: Export }) | undefined {
    const request = this.#decodeOrRefuse(option, data, decodeMetaContextRequest)
    if (request === undefined) return undefined
    if (this.#negotiation.style === 'simple') {
      this.#fail(option, NBD_REP_ERR_INVALID, 'negotiate structured replies or extended headers first')
      return undefined
    }
    const found = this.#findOrRefuse(option, request.name)
    return found && { ...request, export: found }
  }

  #infoOrGo(option: number, data: Buffer): HandshakeResult | undefined {
    const request = this.#decodeOrRefuse(option, data, decodeInfoRequest)
    if (request === undefined) return undefined
    const found = this.#findOrRefuse(option, request.name)
    if (found === undefined) return undefined
    const negotiated = this.#negotiation.resultFor(request.name)
    for (const info of infosOf(found, negotiated, request.infos)) this.#reply(option, NBD_REP_INFO, encodeInfo(info))
    this.#reply(option, NBD_REP_ACK)
    return option === NBD_OPT_GO ? { kind: 'transmission', export: found, negotiated } : undefined
  }

  #findOrRefuse(option: number, name: string): Export | undefined {
    const found = findExport(this.#exports, name)
    if (found === undefined) this.#fail(option, NBD_REP_ERR_UNKNOWN, `there is no export ${quote(name)} here`)
    return found
  }

  #decodeOrRefuse<T>(option: number, data: Buffer, decode: (data: Buffer) => T): T | undefined {
    try {
      return decode(data)
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      this.#fail(option, NBD_REP_ERR_INVALID, error.message)
      return undefined
    }
  }

  #refuseData(option: number, data: Buffer): boolean {
    if (data.length === 0) return false
    this.#fail(option, NBD_REP_ERR_INVALID, `${optionName(option)} has no data`)
    return true
  }

  #fail(option: number, type: number, message: string): void {
    this.#reply(option, type, encodeText(message))
  }

  #reply(option: number, type: number, data?: Buffer): void {
    this.#send(encodeOptionReply(option, type, data))
  }
}

/** NBD_INFO_EXPORT always; of the others those asked for. Unknown ones are ignored, as the specification says. */
function infosOf(it: Export, negotiated: Negotiated, wanted: readonly number[]): Info[] {
  const flags = transmissionFlags(it, negotiated)
  const infos: Info[] = [{ type: NBD_INFO_EXPORT, size: it.device.size, transmissionFlags: flags }]
  if (wanted.includes(NBD_INFO_NAME)) infos.push({ type: NBD_INFO_NAME, name: it.name })
  if (wanted.includes(NBD_INFO_DESCRIPTION)) infos.push({ type: NBD_INFO_DESCRIPTION, description: it.description })
  if (wanted.includes(NBD_INFO_BLOCK_SIZE)) infos.push({ type: NBD_INFO_BLOCK_SIZE, ...advertisedBlockSizes(it) })
  return infos
}
