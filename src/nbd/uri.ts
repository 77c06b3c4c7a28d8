/**
 * NBD URIs (`doc/uri.md` of the NBD project): where a server listens and which of its exports is meant.
 *
 * The normalised form that `formatNbdUri` writes names one export the same way however the user spelled it, so it
 * serves as an identity: schemes and hosts in lower case, the default port left out, socket paths absolute. What a
 * connection is secured with is no part of it.
 */

import { SocketAddress, isIPv6 } from 'node:net'
import { resolve } from 'node:path'

/** Assigned to NBD by IANA. */
export const NBD_DEFAULT_PORT = 10809
/** Bytes of a name, by the protocol's "Values" section; longer ones no server has to accept. */
const EXPORT_NAME_BYTES_MAX = 4096
/** Bytes of `sun_path` on Linux, less the terminating NUL. */
const SOCKET_PATH_BYTES_MAX = 107

export type NbdAddress =
  | { readonly transport: 'tcp'; readonly host: string; readonly port: number }
  | { readonly transport: 'unix'; readonly path: string }

export interface NbdUri {
  readonly address: NbdAddress
  /** Empty for the default export. */
  readonly exportName: string
  /** The connection must be encrypted (`nbds:`, `nbds+unix:`). */
  readonly tls: boolean
  /** Only with `tls`, and only if the URI says something about it. */
  readonly credentials?: NbdCredentials
}

/** What the connection is secured with, by the names that libnbd and the URI specification have for it. */
export interface NbdCredentials {
  /** `tls-certificates`: directory with ca-cert.pem, and client-cert.pem and client-key.pem if the server wants them. */
  readonly certificates?: string
  /** `tls-psk-file`: file of pre-shared keys. */
  readonly pskFile?: string
  /** The name before an `@`: whose pre-shared key. */
  readonly user?: string
  /** `tls-hostname`: what the server's certificate must be made for, if that is not the host of the URI. */
  readonly hostname?: string
}

/** A text that was to be an NBD URI and is not; the message quotes it, says what is wrong and what a right one looks like. */
export class NbdUriError extends Error {
  override name = 'NbdUriError'
  constructor(
    readonly uri: string,
    problem: string,
  ) {
    super(
      `invalid NBD URI '${uri}': ${problem} (a valid one is nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH)`,
    )
  }
}

/** Splits scheme, authority, path, query and fragment, RFC 3986 appendix B. */
const URI_PARTS = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?$/s
const SCHEMES: ReadonlyMap<string, { transport: NbdAddress['transport']; tls: boolean }> = new Map([
  ['nbd', { transport: 'tcp', tls: false }],
  ['nbd+tcp', { transport: 'tcp', tls: false }],
  ['nbds', { transport: 'tcp', tls: true }],
  ['nbds+tcp', { transport: 'tcp', tls: true }],
  ['nbd+unix', { transport: 'unix', tls: false }],
  ['nbds+unix', { transport: 'unix', tls: true }],
])

/** Whether `text` means an NBD URI rather than a path; it may still be a malformed one. */
export const isNbdUri = (text: string): boolean => /^nbds?(\+[a-z]+)?:/i.test(text)

/** @throws NbdUriError */
export function parseNbdUri(uri: string): NbdUri {
  const parts = URI_PARTS.exec(uri)
  if (!parts) throw new NbdUriError(uri, 'it is not of the form SCHEME://...')
  const [, schemeName = '', authority = '', path = '', query, fragment] = parts
  const scheme = SCHEMES.get(schemeName.toLowerCase())
  if (!scheme) {
    throw new NbdUriError(uri, `unknown scheme '${schemeName}', known are ${[...SCHEMES.keys()].join(', ')}`)
  }
  if (fragment !== undefined) throw new NbdUriError(uri, "a '#' in a name is written %23")
  const parameters = parseQuery(uri, query ?? '', scheme)
  const address =
    scheme.transport === 'unix'
      ? parseUnixAddress(uri, authority, parameters, scheme.tls)
      : parseTcpAddress(uri, authority, scheme.tls)
  const exportName = parseExportName(uri, path)
  const credentials = parseCredentials(uri, authority, parameters)
  const { tls } = scheme
  return Object.keys(credentials).length === 0
    ? { address, exportName, tls }
    : { address, exportName, tls, credentials }
}

/** The normalised form, see the top of the file. `formatNbdUri(parseNbdUri(text))` is a fixed point. */
export function formatNbdUri({ address, exportName, tls }: NbdUri): string {
  const scheme = tls ? 'nbds' : 'nbd'
  if (address.transport === 'unix') {
    return `${scheme}+unix:///${encode(exportName)}?socket=${encode(resolve(address.path))}`
  }
  const host = isIPv6(address.host) ? `[${encode(address.host)}]` : encode(address.host)
  const port = address.port === NBD_DEFAULT_PORT ? '' : `:${address.port}`
  return `${scheme}://${host}${port}/${encode(exportName)}`
}

/** Colons and slashes stay readable; both are allowed as they are in a path, a query and a bracketed host. */
const encode = (text: string): string => encodeURIComponent(text).replace(/%2F/g, '/').replace(/%3A/g, ':')

function decode(uri: string, text: string, what: string): string {
  let decoded: string
  try {
    decoded = decodeURIComponent(text)
  } catch {
    throw new NbdUriError(uri, `the ${what} '${text}' is not percent-encoded UTF-8, a '%' is written %25`)
  }
  if (decoded.includes('\0')) throw new NbdUriError(uri, `the ${what} contains a NUL character`)
  return decoded
}

function parseExportName(uri: string, path: string): string {
  // Only the first slash belongs to the URI: `nbd://host//disk` means the export `/disk`.
  const name = decode(uri, path.slice(1), 'export name')
  if (Buffer.byteLength(name) > EXPORT_NAME_BYTES_MAX) {
    throw new NbdUriError(uri, `the export name is longer than ${EXPORT_NAME_BYTES_MAX} bytes`)
  }
  return name
}

const TLS_PARAMETERS: ReadonlySet<string> = new Set(['tls-certificates', 'tls-psk-file', 'tls-hostname'])

function parseQuery(uri: string, query: string, scheme: { transport: string; tls: boolean }): Map<string, string> {
  const parameters = new Map<string, string>()
  for (const pair of query.split('&').filter((text) => text !== '')) {
    const [name = '', ...value] = pair.split('=')
    const key = decode(uri, name, 'parameter name')
    const known = (key === 'socket' && scheme.transport === 'unix') || (TLS_PARAMETERS.has(key) && scheme.tls)
    if (!known) throw new NbdUriError(uri, `the parameter '${key}' has no meaning here`)
    if (parameters.has(key)) throw new NbdUriError(uri, `the parameter '${key}' is given twice`)
    parameters.set(key, decode(uri, value.join('='), `parameter '${key}'`))
  }
  return parameters
}

function parseCredentials(uri: string, authority: string, parameters: ReadonlyMap<string, string>): NbdCredentials {
  const user = /^(.*)@/s.exec(authority)?.[1]
  const certificates = parameters.get('tls-certificates')
  const pskFile = parameters.get('tls-psk-file')
  const hostname = parameters.get('tls-hostname')
  if (certificates !== undefined && pskFile !== undefined) {
    throw new NbdUriError(uri, 'tls-certificates and tls-psk-file exclude each other')
  }
  for (const name of TLS_PARAMETERS) if (parameters.get(name) === '') throw new NbdUriError(uri, `'${name}' is empty`)
  return {
    ...(certificates === undefined ? {} : { certificates }),
    ...(pskFile === undefined ? {} : { pskFile }),
    ...(user === undefined ? {} : { user: decode(uri, user, 'user name') }),
    ...(hostname === undefined ? {} : { hostname }),
  }
}

function parseUnixAddress(
  uri: string,
  authority: string,
  parameters: ReadonlyMap<string, string>,
  tls: boolean,
): NbdAddress {
  const host = tls ? authority.replace(/^.*@/s, '') : authority
  if (host !== '') {
    throw new NbdUriError(uri, `a unix socket has no host '${host}', three slashes precede the export name`)
  }
  const path = parameters.get('socket') ?? ''
  if (path === '') throw new NbdUriError(uri, "the parameter 'socket' with the path of the unix socket is missing")
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
    throw new NbdUriError(uri, `the socket path is longer than ${SOCKET_PATH_BYTES_MAX} bytes`)
  }
  return { transport: 'unix', path }
}

function parseTcpAddress(uri: string, authority: string, tls: boolean): NbdAddress {
  const parts = /^(?:(.*)@)?(\[[^\]]*\]|[^:@[\]]*)(?::([^:]*))?$/s.exec(authority)
  if (!parts) throw new NbdUriError(uri, `'${authority}' is not HOST:PORT, an IPv6 address stands in brackets`)
  const [, user, host = '', port] = parts
  if (user !== undefined && !tls) throw new NbdUriError(uri, `a user name ('${user}') has a meaning only with TLS`)
  if (host === '') throw new NbdUriError(uri, 'the host is missing')
  return { transport: 'tcp', host: parseHost(uri, host), port: parsePort(uri, port ?? '') }
}

function parseHost(uri: string, text: string): string {
  if (!text.startsWith('[')) return decode(uri, text, 'host').toLowerCase()
  const host = decode(uri, text.slice(1, -1), 'host')
  if (!isIPv6(host)) throw new NbdUriError(uri, `'${host}' is not an IPv6 address`)
  const [address = '', zone] = host.split('%')
  const canonical = new SocketAddress({ address, family: 'ipv6' }).address
  return zone === undefined ? canonical : `${canonical}%${zone}`
}

function parsePort(uri: string, text: string): number {
  if (text === '') return NBD_DEFAULT_PORT
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (port < 1 || port > 65535) throw new NbdUriError(uri, `the port '${text}' is not a number from 1 to 65535`)
  return port
}
