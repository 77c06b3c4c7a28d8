/**
 * TLS on the client's side: from the parameters of an NBD URI to the options of `tls.connect`. Files are read anew for each
 * connection, so that one which reconnects uses renewed certificates.
 *
 * A server that was asked for a pre-shared key must prove that it has it: no certificate is trusted then, or any server with
 * one could take its place.
 */

import { isIP } from 'node:net'
import { userInfo } from 'node:os'
import { type ConnectionOptions, type SecureContextOptions, createSecureContext } from 'node:tls'
import { PSK_CIPHERS, TLS_SETTINGS, TlsError, must, readCertificates, readPreSharedKeys, tlsReason } from './tls.js'
import type { NbdUri } from './uri.js'

/** @throws TlsError when the files are missing or cannot be used */
export function clientTlsOptions({ address, credentials = {} }: NbdUri): ConnectionOptions {
  const { certificates, pskFile, user = userInfo().username } = credentials
  if (pskFile !== undefined) return pskOptions(pskFile, user)
  const hostname = credentials.hostname ?? (address.transport === 'tcp' ? address.host : undefined)
  if (certificates === undefined && hostname === undefined) {
    throw new TlsError('over a unix socket, whom to trust is said by tls-certificates, tls-psk-file or tls-hostname')
  }
  return { ...trustOptions(certificates), ...identityOptions(hostname) }
}

/** The CA of the directory, or without one those that Node.js knows. */
function trustOptions(directory: string | undefined): ConnectionOptions {
  if (directory === undefined) return context({}, 'certificates')
  const { ca, crl, cert, key } = readCertificates(directory, 'client')
  return context(
    {
      ca: must(ca, 'ca-cert.pem', directory),
      ...(crl === undefined ? {} : { crl }),
      ...(cert === undefined || key === undefined ? {} : { cert, key }),
    },
    directory,
  )
}

/**
 * The certificate must be made for that host; without one (a unix socket), for any. An address is not sent as a server
 * name: TLS forbids it.
 */
function identityOptions(host: string | undefined): ConnectionOptions {
  if (host === undefined) return { checkServerIdentity: () => undefined }
  return { host, servername: isIP(host) === 0 ? host : '' }
}

function pskOptions(file: string, identity: string): ConnectionOptions {
  const psk = readPreSharedKeys(file).get(identity)
  if (psk === undefined) {
    throw new TlsError(`there is no key of '${identity}' in ${file} (in the URI the name stands before an '@')`)
  }
  return {
    ...context({ ciphers: PSK_CIPHERS, ca: [] }, file),
    pskCallback: () => ({ psk, identity }),
    checkServerIdentity: () => undefined,
  }
}

function context(options: SecureContextOptions, where: string): ConnectionOptions {
  try {
    return { secureContext: createSecureContext({ ...TLS_SETTINGS, ...options }) }
  } catch (error) {
    throw new TlsError(`cannot use the TLS credentials in ${where}: ${tlsReason(error, 'the server')}`, {
      cause: error,
    })
  }
}
