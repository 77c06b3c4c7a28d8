/**
 * `HttpServer`: `/metrics`, `/healthz`, and the monitor as a WebSocket at `/qmp`. It runs in the control thread, so whatever
 * its clients do, requests for the disk are not held up. It reads nothing but headers.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { WebSocketServer } from 'ws'
import { MONITOR_LIMITS, type QmpMonitor } from '../qmp/monitor.js'
import { QMP_SUBPROTOCOL, WebSocketConnection } from '../qmp/web-socket.js'
import type { Log } from '../util/log.js'
import { TokenBucket } from '../util/token-bucket.js'
import { EXPOSITION_TYPE } from './exposition.js'
import { isHostAllowed, isOriginAllowed, isToken, tokenOf } from './http-guard.js'

export interface HttpLimits {
  /** Connections at the same time, WebSockets among them; further ones are closed. */
  readonly httpConnectionsMax: number
  readonly headerBytesMax: number
  /** For a whole request, from its first byte. */
  readonly requestMsMax: number
  /** A connection that asks nothing. */
  readonly idleMsMax: number
  /** Requests with the right token, and those without one. */
  readonly requestsPerSecond: number
  readonly strangersPerSecond: number
}

export const HTTP_LIMITS: HttpLimits = {
  httpConnectionsMax: 64,
  headerBytesMax: 8192,
  requestMsMax: 10_000,
  idleMsMax: 10_000,
  requestsPerSecond: 50,
  strangersPerSecond: 20,
}

const BURST_SECONDS = 2

/** What is so, as far as can be said without waiting for a disk. */
export interface HttpSubject {
  /** undefined: the disks are not open yet. */
  metrics(): Promise<string | undefined>
  liveness(): Promise<Liveness>
}

export interface Liveness {
  readonly isAlive: boolean
  readonly [member: string]: unknown
}

export interface HttpServerOptions {
  readonly subject: HttpSubject
  readonly monitor: QmpMonitor
  readonly token: string
  /** By which it may be asked for, besides addresses and `localhost`. */
  readonly hostNames: readonly string[]
  readonly log: Log
}

interface Answer {
  readonly status: number
  readonly type?: string
  readonly body: string
  readonly headers?: Readonly<Record<string, string>>
}

const refusal = (status: number, error: string, headers: Answer['headers'] = {}): Answer => ({
  status,
  body: `${JSON.stringify({ error })}\n`,
  headers,
})

export class HttpServer {
  /** To be made to listen. */
  readonly server: Server
  readonly #options: HttpServerOptions
  readonly #webSockets = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: MONITOR_LIMITS.messageBytesMax,
    perMessageDeflate: false,
    handleProtocols: (offered) => (offered.has(QMP_SUBPROTOCOL) ? QMP_SUBPROTOCOL : false),
  })
  readonly #known = bucket(HTTP_LIMITS.requestsPerSecond)
  readonly #strangers = bucket(HTTP_LIMITS.strangersPerSecond)

  constructor(options: HttpServerOptions) {
    this.#options = options
    this.server = createServer(
      {
        maxHeaderSize: HTTP_LIMITS.headerBytesMax,
        headersTimeout: HTTP_LIMITS.requestMsMax,
        requestTimeout: HTTP_LIMITS.requestMsMax,
        keepAliveTimeout: HTTP_LIMITS.idleMsMax,
        connectionsCheckingInterval: HTTP_LIMITS.requestMsMax / 4,
        noDelay: true,
      },
      (request, response) => void this.#serve(request, response),
    )
    this.server.maxConnections = HTTP_LIMITS.httpConnectionsMax
    this.server.on('upgrade', (request, socket, head) => {
      this.#upgrade(request, socket, head)
    })
  }

  /** The monitor hangs up on the WebSockets. */
  close(): void {
    this.server.close()
    this.server.closeAllConnections()
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, type = 'application/json', body, headers } = await this.#answer(request)
    response.writeHead(status, {
      'content-type': type,
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...headers,
    })
    response.end(request.method === 'HEAD' ? undefined : body)
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    const path = pathOf(request)
    const refused = this.#refuse(request, path === '/healthz')
    if (refused) return refused
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return refusal(405, 'only GET and HEAD are possible', { allow: 'GET, HEAD', connection: 'close' })
    }
    const { subject } = this.#options
    switch (path) {
      case '/healthz': {
        const { isAlive, ...more } = await subject.liveness()
        return { status: isAlive ? 200 : 503, body: `${JSON.stringify(more)}\n` }
      }
      case '/metrics': {
        const text = await subject.metrics()
        if (text === undefined) return refusal(503, 'the disks are being opened')
        return { status: 200, type: EXPOSITION_TYPE, body: text }
      }
      case '/qmp':
        return refusal(426, 'this is a WebSocket', { upgrade: 'websocket', connection: 'close' })
      default:
        return refusal(404, 'there are /metrics, /healthz and /qmp')
    }
  }

  /** @returns why the request is not answered; undefined: it is */
  #refuse({ headers }: IncomingMessage, isForAll: boolean): Answer | undefined {
    const { token, hostNames } = this.#options
    const isKnown = isToken(tokenOf(headers), token)
    if (!(isKnown ? this.#known : this.#strangers).take(performance.now())) {
      return refusal(429, 'too many requests', { 'retry-after': '1' })
    }
    if (!isHostAllowed(headers.host, hostNames)) {
      return refusal(421, 'this server does not go by that name: see --http-host')
    }
    if (!isOriginAllowed(headers.origin, headers.host)) return refusal(403, 'pages of other origins have no access')
    if (!isKnown && !isForAll) {
      return refusal(401, 'the bearer token is missing or wrong', { 'www-authenticate': 'Bearer realm="nbd-remap"' })
    }
    if (hasBody(headers)) return refusal(413, 'a request has no body here', { connection: 'close' })
    return undefined
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => undefined)
    const path = pathOf(request)
    const isWebSocket = request.headers.upgrade?.toLowerCase() === 'websocket'
    const refused =
      this.#refuse(request, false) ??
      (path === '/qmp' && isWebSocket ? undefined : refusal(404, 'the only WebSocket is /qmp'))
    if (refused) {
      const { status, body, headers } = refused
      const lines = Object.entries({ 'content-type': 'application/json', connection: 'close', ...headers })
      const text = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')
      const length = Buffer.byteLength(body)
      socket.end(`HTTP/1.1 ${status} Refused\r\ncontent-length: ${length}\r\n${text}\r\n${body}`, () => {
        socket.destroy()
      })
      return
    }
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      this.#options.monitor.accept(new WebSocketConnection(webSocket))
    })
  }
}

const bucket = (perSecond: number): TokenBucket => new TokenBucket(perSecond, perSecond * BURST_SECONDS)

const pathOf = ({ url = '' }: IncomingMessage): string => url.split('?', 1)[0] ?? ''

const hasBody = (headers: IncomingMessage['headers']): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0
