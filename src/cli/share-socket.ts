/**
 * A listening socket of a shared monitor. Who connects before there is a monitor waits. A browser sends the origin of its page with
 * each WebSocket, programs send none: so pages are kept out, whatever name they have this machine called by.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { WebSocketServer } from 'ws'
import { isHostAllowed } from '../control/http-guard.js'
import { SHARE_LIMITS, type QmpShare } from '../qmp/share/share.js'
import { formatAddress } from '../qmp/transport.js'
import { QMP_SUBPROTOCOL, WebSocketConnection } from '../qmp/web-socket.js'
import { explainListen, Listener } from '../server/listener.js'
import type { Log } from '../util/log.js'
import { claimSocketPath } from '../util/socket-path.js'
import { advising } from './listen.js'
import type { ShareAddress } from './qmp-share.js'
import { WaitingRoom } from './waiting-room.js'

const HEADER_BYTES_MAX = 8192
const HANDSHAKE_MS_MAX = 10_000

export interface ShareSocket {
  /** As clients write it, with the port that was chosen when any would do. */
  readonly text: string
  open(share: QmpShare): void
  close(): void
}

/** @throws Error with a sentence for people */
export const openShareSocket = (address: ShareAddress, log: Log): Promise<ShareSocket> =>
  advising('--listen', () => ('urlPath' in address ? listenForWebSockets(address, log) : listen(address, log)))

async function listen(address: Exclude<ShareAddress, { urlPath: string }>, log: Log): Promise<ShareSocket> {
  if ('path' in address) await claimSocketPath(address.path)
  const room = new WaitingRoom()
  const listener = await Listener.open(address, room.admit, log)
  const bound = listener.address
  const open = (share: QmpShare): void => {
    room.open((socket) => {
      socket.setNoDelay(true)
      share.accept(socket, { mayBePage: !('path' in bound) })
    })
  }
  const close = (): void => {
    room.close()
    listener.close()
  }
  return { text: 'path' in bound ? bound.path : formatAddress(bound), open, close }
}

async function listenForWebSockets(
  { host, port, urlPath }: Extract<ShareAddress, { urlPath: string }>,
  log: Log,
): Promise<ShareSocket> {
  const limits = { maxHeaderSize: HEADER_BYTES_MAX, headersTimeout: HANDSHAKE_MS_MAX, requestTimeout: HANDSHAKE_MS_MAX }
  const server = createServer({ ...limits, noDelay: true }, (_request, response) => {
    response.writeHead(426, { upgrade: 'websocket', connection: 'close' }).end(`this is a WebSocket: ${urlPath}\n`)
  })
  server.maxConnections = 2 * SHARE_LIMITS.clientsMax
  server.listen(port, host)
  await once(server, 'listening').catch((error: unknown) => {
    throw explainListen({ host, port }, error)
  })
  server.on('error', (error) => {
    log.error(`cannot accept a connection: ${error.message}`)
  })
  const bound = server.address()
  const boundPort = typeof bound === 'object' && bound ? bound.port : port
  const open = (share: QmpShare): void => {
    serveWebSockets(server, urlPath, share)
  }
  const close = (): void => {
    server.close()
    server.closeAllConnections()
  }
  return { text: `ws://${formatAddress({ host, port: boundPort })}${urlPath}`, open, close }
}

function serveWebSockets(server: Server, urlPath: string, share: QmpShare): void {
  const webSockets = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: SHARE_LIMITS.messageBytesMax,
    perMessageDeflate: false,
    handleProtocols: (offered) => (offered.has(QMP_SUBPROTOCOL) ? QMP_SUBPROTOCOL : false),
  })
  server.on('upgrade', (request, socket: Duplex, head) => {
    socket.on('error', () => undefined)
    const refusal = refusalOf(request, urlPath)
    if (refusal !== undefined) {
      socket.end(`HTTP/1.1 ${refusal}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`, () => socket.destroy())
      return
    }
    webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      share.accept(new WebSocketConnection(webSocket))
    })
  })
}

/** @returns status and reason; undefined for a client that is welcome */
function refusalOf({ url = '', headers }: IncomingMessage, urlPath: string): string | undefined {
  if (headers.origin !== undefined) return '403 Pages have no access'
  if (!isHostAllowed(headers.host, [])) return '421 Not a name of this server'
  if (url.split('?', 1)[0] !== urlPath) return '404 There is nothing here'
  return headers.upgrade?.toLowerCase() === 'websocket' ? undefined : '400 Not a WebSocket'
}
