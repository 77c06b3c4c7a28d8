/**
 * TLS on the server's side: turns a connected socket whose client has sent NBD_OPT_STARTTLS into an encrypted one.
 *
 * The sockets go through a `tls.Server`, because a `tls.TLSSocket` made directly does not reject clients: with
 * `rejectUnauthorized` it serves them, certificate or not. A `tls.Server` does not say which socket became which, so each has
 * one handshake at a time, and there are as many as there were handshakes at once.
 */

import type { Socket } from 'node:net'
import { createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls'
import {
  PSK_CIPHERS,
  TLS_SETTINGS,
  TlsError,
  must,
  readCertificates,
  readPreSharedKeys,
  tlsReason,
} from '../nbd/tls.js'

export interface CertificateSettings {
  /** Directory with server-cert.pem and server-key.pem, and for `verifyPeer` with ca-cert.pem and perhaps ca-crl.pem. */
  readonly certificates: string
  /** Clients must have a certificate of that CA. */
  readonly verifyPeer: boolean
}

export interface PskSettings {
  /** Of `NAME:KEY` lines, keys in hex. */
  readonly pskFile: string
}

export type ServerTlsSettings = CertificateSettings | PskSettings

/** Milliseconds. The deadline is the connection's own; this only keeps Node from having a shorter one. */
const NO_TIMEOUT = 2 ** 31 - 1

export class ServerTls {
  /** Clients must use it. */
  readonly required: boolean
  readonly #options: TlsOptions
  readonly #idle: Server[] = []

  /** Reads the files. @throws TlsError when they are missing or cannot be used */
  constructor(settings: ServerTlsSettings, { required }: { required: boolean }) {
    this.required = required
    const credentials = 'pskFile' in settings ? pskOptions(settings) : certificateOptions(settings)
    this.#options = { ...TLS_SETTINGS, handshakeTimeout: NO_TIMEOUT, ...credentials }
    try {
      this.#idle.push(createServer(this.#options))
    } catch (error) {
      const where = 'pskFile' in settings ? settings.pskFile : settings.certificates
      throw new TlsError(`cannot use the TLS credentials in ${where}: ${tlsReason(error, 'the client')}`, {
        cause: error,
      })
    }
  }

  /**
   * Shakes hands. Nothing may listen for the data of `socket` any more. Without a deadline: whoever loses patience destroys
   * the socket.
   * @throws TlsError whose message says why there is no TLS with this client
   */
  secure(socket: Socket): Promise<TLSSocket> {
    const server = this.#idle.pop() ?? createServer(this.#options)
    return new Promise((resolve, reject) => {
      const done = (): void => {
        server.removeAllListeners('secureConnection').removeAllListeners('tlsClientError')
        this.#idle.push(server)
      }
      server.once('secureConnection', (secured) => {
        done()
        resolve(secured)
      })
      server.once('tlsClientError', (error, failed) => {
        done()
        // Set when the certificate was looked at and refused; the error is only that of the closed socket then.
        const refused = failed.authorizationError as unknown
        reject(new TlsError(tlsReason(refused ?? error, 'the client'), { cause: error }))
      })
      // Nobody who has left half-way comes back to finish.
      socket.allowHalfOpen = false
      server.emit('connection', socket)
    })
  }
}

function certificateOptions({ certificates, verifyPeer }: CertificateSettings): TlsOptions {
  const { ca, crl, cert, key } = readCertificates(certificates, 'server')
  const own = {
    cert: must(cert, 'server-cert.pem', certificates),
    key: must(key, 'server-key.pem', certificates),
  }
  if (!verifyPeer) return own
  const authority = { ca: must(ca, 'ca-cert.pem', certificates), ...(crl === undefined ? {} : { crl }) }
  return { ...own, ...authority, requestCert: true, rejectUnauthorized: true }
}

function pskOptions({ pskFile }: PskSettings): TlsOptions {
  const keys = readPreSharedKeys(pskFile)
  return { ciphers: PSK_CIPHERS, pskCallback: (_socket, name) => keys.get(name) ?? null }
}
