/**
 * `ClientSocket`: the stream below an NBD client, unix or TCP, and encrypted from `secure` on.
 *
 * Everything is received into one static buffer per socket, so the bytes a receiver is handed are valid only during
 * that call. During the handshake they are copied and pulled with `read`; `receive` then hands over to a receiver.
 */

import { type OnReadOpts, type Socket, connect } from 'node:net'
import { type ConnectionOptions, TLSSocket, connect as connectTls } from 'node:tls'
import { connectionProblem } from '../util/errors.js'
import { KiB } from '../util/units.js'
import { ByteReader } from './byte-reader.js'
import { NbdConnectionError, NbdProtocolError, NbdTlsError } from './client-errors.js'
import { isCertificateError, tlsReason } from './tls.js'
import type { NbdAddress } from './uri.js'

/** As much as Linux hands out of a default TCP or unix socket buffer in one call. */
const RECEIVE_BUFFER_SIZE = 256 * KiB
/** A peer that vanished without a word (power cut, pulled cable) is noticed after this and ten probes of 1 s each. */
const KEEP_ALIVE_DELAY_MS = 10_000

export class ClientSocket {
  /** Resolves with the reason when the connection is gone, whichever side ended it; never rejects. */
  readonly lost: Promise<Error>
  /** The same, for who cannot wait. */
  lostReason: Error | undefined
  #socket: Socket
  readonly #reader = new ByteReader()
  #wake: () => void = () => undefined
  #onClose: () => void = () => undefined
  #receiver: ((bytes: Buffer) => void) | undefined
  #corked = false

  private constructor(address: NbdAddress) {
    this.#socket = connect({ ...endpoint(address), onread: this.#onread() })
    this.#socket.setNoDelay(true)
    if (address.transport === 'tcp') this.#socket.setKeepAlive(true, KEEP_ALIVE_DELAY_MS)
    this.#socket.on('error', (error) => {
      this.lostReason ??= new NbdConnectionError(connectionProblem(error), { cause: error })
    })
    this.lost = new Promise((resolve) => {
      this.#onClose = () => {
        // Of a certificate that is refused a client may not hear more than this.
        const why = this.#socket instanceof TLSSocket && !this.#receiver ? ' (it may refuse these credentials)' : ''
        this.lostReason ??= new NbdConnectionError(`the server closed the connection${why}`)
        this.#wake()
        resolve(this.lostReason)
      }
    })
    this.#socket.once('close', this.#onClose)
  }

  /** @throws NbdConnectionError whose message is only the reason */
  static async open(address: NbdAddress, signal: AbortSignal): Promise<ClientSocket> {
    const opened = new ClientSocket(address)
    const abort = (): void => {
      opened.destroy(signal.reason instanceof Error ? signal.reason : new NbdConnectionError('aborted'))
    }
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort)
    void opened.lost.then(() => {
      signal.removeEventListener('abort', abort)
    })
    const connected = new Promise<void>((resolve) => opened.#socket.once('connect', resolve))
    const lost = await Promise.race([connected, opened.lost])
    if (lost) throw lost
    return opened
  }

  /**
   * Encrypts everything from here on. Only during the handshake, when nothing is on its way in either direction.
   * @throws NbdTlsError
   * @throws NbdProtocolError when something is on its way: it would be taken for what the encrypted server says
   */
  async secure(options: ConnectionOptions): Promise<void> {
    if (this.lostReason) throw this.lostReason
    if (this.#reader.available > 0) {
      throw new NbdProtocolError('the server talks on in the clear after NBD_OPT_STARTTLS')
    }
    const plain = this.#socket
    const secured = connectTls({ ...options, socket: plain })
    this.#socket = secured
    let handshake: ConnectionOptions | undefined = options
    secured.on('error', (error: Error) => {
      this.lostReason ??= lossOf(error, handshake)
    })
    // The socket below closes first, and knows no reason.
    plain.off('close', this.#onClose)
    secured.once('close', this.#onClose)
    secured.on('data', (bytes: Buffer) => {
      this.#arrived(bytes)
    })
    const done = new Promise<void>((resolve) => secured.once('secureConnect', resolve))
    const lost = await Promise.race([done, this.lost])
    if (lost) throw lost
    handshake = undefined
  }

  /** The next `length` bytes. Only during the handshake. @throws the reason of the loss, if they will not come */
  async read(length: number): Promise<Buffer> {
    while (this.#reader.available < length) {
      if (this.lostReason) throw this.lostReason
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
    return this.#reader.consume(length)
  }

  /** From now on everything that arrives goes to `receiver`, beginning with what was not read yet. */
  receive(receiver: (bytes: Buffer) => void): void {
    this.#receiver = receiver
    for (const bytes of this.#reader.consumeChunks(this.#reader.available)) receiver(bytes)
  }

  /** Writes of one turn of the event loop leave together. The buffers must not change until they were answered. */
  write(data: Buffer): void {
    if (!this.#corked) {
      this.#corked = true
      this.#socket.cork()
      process.nextTick(() => {
        this.#corked = false
        this.#socket.uncork()
      })
    }
    this.#socket.write(data)
  }

  /** Closes the sending direction once everything is written. */
  end(): void {
    this.#socket.end()
  }

  destroy(reason: Error): void {
    this.lostReason ??= reason
    this.#wake()
    this.#socket.destroy()
  }

  #onread(): OnReadOpts {
    const buffer = Buffer.allocUnsafeSlow(RECEIVE_BUFFER_SIZE)
    const callback = (length: number): boolean => {
      if (this.lostReason) return false
      this.#arrived(buffer.subarray(0, length))
      return true
    }
    return { buffer, callback }
  }

  #arrived(bytes: Buffer): void {
    if (this.#receiver) {
      this.#receiver(bytes)
    } else {
      this.#reader.push(Buffer.from(bytes))
      this.#wake()
    }
  }
}

const endpoint = (address: NbdAddress): { path: string } | { host: string; port: number } =>
  address.transport === 'unix' ? { path: address.path } : { host: address.host, port: address.port }

/** `handshake`: what the TLS handshake is made with, while it lasts. */
function lossOf(error: Error, handshake: ConnectionOptions | undefined): NbdConnectionError {
  const cause = error
  const isTls = 'code' in error && typeof error.code === 'string' && error.code.startsWith('ERR_SSL_')
  if (!handshake && !isTls) return new NbdConnectionError(connectionProblem(error), { cause })
  const wrongKind = handshake?.pskCallback !== undefined && isCertificateError(error)
  const reason = wrongKind ? 'the server has a certificate, not the pre-shared key' : tlsReason(error, 'the server')
  return new NbdTlsError(reason, { cause })
}
