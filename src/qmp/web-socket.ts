/**
 * QMP over WebSocket, for both roles: text messages, whose boundaries are those of words at most. To the layers above it is a
 * stream like that of a socket, so a peer that does not read is felt in the same way. Loaded only where it is needed.
 */
import { Duplex } from 'node:stream'
import { WebSocket, type RawData } from 'ws'

/** The subprotocol that a server of ours selects, and a client of ours asks for. */
export const QMP_SUBPROTOCOL = 'qmp'

/** A peer that does not say goodbye in time is left. */
const GOODBYE_MS = 1000
const UNSUPPORTED_DATA = 1003
const NEWLINE = Buffer.from('\n')

export class WebSocketConnection extends Duplex {
  readonly #socket: WebSocket
  #goodbye: NodeJS.Timeout | undefined

  /** @param socket an open one */
  constructor(socket: WebSocket) {
    super()
    this.#socket = socket
    socket.on('message', (data, isBinary) => {
      if (isBinary) this.#leave(UNSUPPORTED_DATA, 'QMP is spoken in text messages')
      else this.#receive(data)
    })
    // It says goodbye by itself, with the reason; `close` follows.
    socket.on('error', () => {
      this.#awaitGoodbye()
    })
    socket.on('close', () => {
      clearTimeout(this.#goodbye)
      this.push(null)
      this.end()
    })
  }

  /** As the method of a socket. */
  destroySoon(): void {
    this.end()
    if (this.writableFinished) this.destroy()
    else this.once('finish', () => this.destroy())
  }

  override _read(): void {
    this.#socket.resume()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.send(chunk, { binary: false }, done)
  }

  override _final(done: () => void): void {
    if (this.#socket.readyState === WebSocket.CLOSED) {
      done()
      return
    }
    this.#socket.once('close', () => {
      done()
    })
    this.#leave()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.#goodbye)
    this.#socket.terminate()
    done(error)
  }

  #receive(data: RawData): void {
    // What is no JSON ends with its message.
    const text = Buffer.concat([...(Array.isArray(data) ? data : [Buffer.from(data as Buffer)]), NEWLINE])
    if (!this.push(text)) this.#socket.pause()
  }

  #leave(code?: number, reason?: string): void {
    this.#socket.close(code, reason)
    this.#awaitGoodbye()
  }

  #awaitGoodbye(): void {
    // What the peer still sends is not wanted, but its goodbye stands behind it.
    this.#socket.resume()
    this.#goodbye ??= setTimeout(() => {
      this.#socket.terminate()
    }, GOODBYE_MS).unref()
  }
}

/** Offered by a client, and never selected by the server, which would send the token back. */
export const TOKEN_SUBPROTOCOL = 'bearer.'

export interface DialOptions {
  readonly url: string
  readonly token: string | undefined
  readonly messageBytesMax: number
  readonly timeoutMs: number
  readonly signal: AbortSignal | undefined
}

/** @throws Error with what became of it: refused, unauthorized, not a WebSocket, aborted */
export function dialWebSocket(options: DialOptions): Promise<WebSocketConnection> {
  const { url, token, messageBytesMax, timeoutMs, signal } = options
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, QMP_SUBPROTOCOL, {
      maxPayload: messageBytesMax,
      handshakeTimeout: Math.max(1, Math.ceil(timeoutMs)),
      perMessageDeflate: false,
      ...(token !== undefined && { headers: { authorization: `Bearer ${token}` } }),
    })
    const onAbort = (): void => {
      socket.terminate()
    }
    const settle = (): void => {
      signal?.removeEventListener('abort', onAbort)
      socket.off('error', onError)
    }
    const onError = (error: Error): void => {
      settle()
      socket.on('error', () => undefined)
      reject(error)
    }
    socket.on('error', onError)
    socket.once('open', () => {
      settle()
      resolve(new WebSocketConnection(socket))
    })
    if (signal?.aborted === true) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
  })
}
