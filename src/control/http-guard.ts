/**
 * Who may use the HTTP server. Pure. Three things keep web pages out: the token, which they do not know; the Host that the
 * browser asked for, which is the page's own name when a name was made to point here (DNS rebinding); and the Origin, which
 * browsers send with every WebSocket.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { isIP } from 'node:net'
import { TOKEN_SUBPROTOCOL } from '../qmp/web-socket.js'

/** Lower case and without a port. An address cannot be made to point elsewhere; a name can, so it has to be known. */
export function isHostAllowed(header: string | undefined, names: readonly string[]): boolean {
  const host = hostOf(header)
  if (host === undefined) return false
  return isIP(host) !== 0 || host === 'localhost' || names.includes(host)
}

function hostOf(header: string | undefined): string | undefined {
  const [, inBrackets, plain] = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?$/i.exec(header ?? '') ?? []
  return (inBrackets ?? plain)?.toLowerCase()
}

/** Programs send none. A page may, if this server has sent it, perhaps through a proxy that does TLS. */
export const isOriginAllowed = (origin: string | undefined, host: string | undefined): boolean =>
  origin === undefined || origin === `http://${host ?? ''}` || origin === `https://${host ?? ''}`

export interface Credentials {
  readonly authorization?: string | undefined
  /** Offered subprotocols: a browser can send no other header with a WebSocket. */
  readonly 'sec-websocket-protocol'?: string | undefined
}

/** The token that a request brings. */
export function tokenOf(headers: Credentials): string | undefined {
  const bearer = /^bearer +(\S+)$/i.exec(headers.authorization ?? '')?.[1]
  if (bearer !== undefined) return bearer
  const offered = (headers['sec-websocket-protocol'] ?? '').split(',').map((it) => it.trim())
  return offered.find((it) => it.startsWith(TOKEN_SUBPROTOCOL))?.slice(TOKEN_SUBPROTOCOL.length)
}

/** How long it takes to compare says nothing of the token, not even its length. */
export const isToken = (given: string | undefined, token: string): boolean =>
  given !== undefined && timingSafeEqual(digest(given), digest(token))

const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
