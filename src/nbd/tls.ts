/**
 * TLS as NBD programs use it: credentials in files of the names and forms that QEMU, nbdkit and libnbd know, the same
 * protocol settings for servers and clients, and failures in words.
 *
 * With pre-shared keys the ciphers are named here one by one, because OpenSSL's own name for them, `PSK`, includes those
 * that do not encrypt.
 */

import { constants } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { KiB } from '../util/units.js'

/** A sentence for the user: what is wrong with the credentials, or why there is no TLS with a peer. */
export class TlsError extends Error {
  override name = 'TlsError'
}

/** TLS 1.2 and 1.3, and no renegotiation: nothing in NBD needs it, and a client could make the server work with it. */
export const TLS_SETTINGS = { minVersion: 'TLSv1.2', secureOptions: constants.SSL_OP_NO_RENEGOTIATION } as const

/** With forward secrecy. Of TLS 1.3 only suites with SHA-256, which is what a key without a stated hash goes with. */
export const PSK_CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-PSK-CHACHA20-POLY1305',
  'ECDHE-PSK-AES256-CBC-SHA384',
  'ECDHE-PSK-AES128-CBC-SHA256',
].join(':')

/** Contents of PEM files. */
export interface Certificates {
  readonly ca: Buffer | undefined
  readonly crl: Buffer | undefined
  readonly cert: Buffer | undefined
  readonly key: Buffer | undefined
}

/**
 * Reads `ca-cert.pem`, `ca-crl.pem`, and ROLE-cert.pem with ROLE-key.pem. Which of them must be there is for the caller to
 * say with `must`; a certificate without its key is an error always.
 * @throws TlsError
 */
export function readCertificates(directory: string, role: 'server' | 'client'): Certificates {
  const read = (name: string): Buffer | undefined => readIfThere(join(directory, name))
  if (!statSync(directory, { throwIfNoEntry: false })?.isDirectory()) {
    throw new TlsError(`${directory} is no directory with TLS certificates`)
  }
  const found = { ca: read('ca-cert.pem'), crl: read('ca-crl.pem'), cert: read(`${role}-cert.pem`) }
  const key = read(`${role}-key.pem`)
  if ((found.cert === undefined) !== (key === undefined)) {
    const missing = key === undefined ? 'key' : 'cert'
    throw new TlsError(`${role}-${missing}.pem is missing in ${directory}`)
  }
  return { ...found, key }
}

/** @throws TlsError when it is not there */
export function must(file: Buffer | undefined, name: string, directory: string): Buffer {
  if (file === undefined) throw new TlsError(`${name} is missing in ${directory}`)
  return file
}

/** Names to keys. */
export type PreSharedKeys = ReadonlyMap<string, Buffer>

/** By OpenSSL. In bytes. */
const PSK_LENGTH_MAX = 256
const PSK_FILE_LENGTH_MAX = 1024 * KiB

/** Reads the lines `NAME:KEY` of a file that `psktool` writes; keys are in hex. @throws TlsError, which quotes no key */
export function readPreSharedKeys(path: string): PreSharedKeys {
  const keys = new Map<string, Buffer>()
  const text = readIfThere(path)
  if (text === undefined) throw new TlsError(`there is no file ${path} with pre-shared keys`)
  for (const [index, line] of text.toString('utf8').split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue
    const [, name, key] = /^([^:]+):((?:[0-9a-fA-F]{2})+)\s*$/.exec(line) ?? []
    if (name === undefined || key === undefined || key.length > 2 * PSK_LENGTH_MAX) {
      throw new TlsError(
        `line ${index + 1} of ${path} is not NAME:KEY with a key of up to ${PSK_LENGTH_MAX} bytes in hex`,
      )
    }
    if (keys.has(name)) throw new TlsError(`line ${index + 1} of ${path} names '${name}' again`)
    keys.set(name, Buffer.from(key, 'hex'))
  }
  if (keys.size === 0) throw new TlsError(`there is no key in ${path}`)
  return keys
}

function readIfThere(path: string): Buffer | undefined {
  try {
    const stats = statSync(path)
    if (!stats.isFile() || stats.size > PSK_FILE_LENGTH_MAX)
      throw new TlsError(`${path} is no file of keys or certificates`)
    return readFileSync(path)
  } catch (error) {
    if (error instanceof TlsError) throw error
    const code = codeOf(error)
    if (code === 'ENOENT') return undefined
    throw new TlsError(`cannot read ${path}: ${code === 'EACCES' ? 'permission denied' : code}`, { cause: error })
  }
}

const NOT_TRUSTED = 'certificate is not signed by the CA that is trusted here'
/** What is wrong with a peer's certificate, after "the server's" or "the client's". */
const CERTIFICATE_REASONS: ReadonlyMap<string, string> = new Map([
  ['SELF_SIGNED_CERT_IN_CHAIN', NOT_TRUSTED],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', NOT_TRUSTED],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', NOT_TRUSTED],
  ['UNABLE_TO_GET_ISSUER_CERT', NOT_TRUSTED],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', NOT_TRUSTED],
  ['CERT_SIGNATURE_FAILURE', NOT_TRUSTED],
  ['CERT_HAS_EXPIRED', 'certificate has expired'],
  ['CERT_NOT_YET_VALID', 'certificate is not valid yet'],
  ['CERT_REVOKED', 'certificate is revoked'],
  ['CRL_HAS_EXPIRED', 'certificate cannot be checked: ca-crl.pem has expired'],
  ['UNABLE_TO_GET_CRL', 'certificate cannot be checked: ca-crl.pem is of another CA'],
  ['INVALID_PURPOSE', 'certificate is not made for this purpose'],
])

/** What OpenSSL reports, and what the other side told us in an alert. */
const REASONS: ReadonlyMap<string, string> = new Map([
  ['ECONNRESET', 'PEER closed the connection during the TLS handshake'],
  ['EPIPE', 'PEER closed the connection during the TLS handshake'],
  ['ERR_SSL_WRONG_VERSION_NUMBER', 'PEER does not speak TLS'],
  ['ERR_SSL_HTTP_REQUEST', 'PEER does not speak TLS'],
  ['ERR_SSL_UNSUPPORTED_PROTOCOL', 'PEER wants a TLS version older than 1.2'],
  ['ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION', 'PEER refuses TLS 1.2 and 1.3'],
  [
    'ERR_SSL_NO_SHARED_CIPHER',
    'PEER uses the other kind of credentials (certificates or pre-shared keys), or old ciphers',
  ],
  [
    'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE',
    'PEER refuses the TLS handshake (does it use the other kind of credentials?)',
  ],
  ['ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE', 'PEER has no certificate'],
  ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', 'PEER wants a certificate'],
  ['ERR_SSL_TLSV1_ALERT_UNKNOWN_CA', 'PEER does not trust our certificate'],
  ['ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE', 'PEER refuses our certificate'],
  ['ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED', 'PEER says that our certificate has expired'],
  ['ERR_SSL_SSLV3_ALERT_CERTIFICATE_REVOKED', 'PEER says that our certificate is revoked'],
  ['ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN', 'PEER refuses our certificate'],
  ['ERR_SSL_UNSUPPORTED_CERTIFICATE', 'PEER has a certificate that cannot be used'],
  ['ERR_SSL_BINDER_DOES_NOT_VERIFY', 'PEER has another pre-shared key for this name'],
  ['ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC', 'PEER has another key'],
  ['ERR_SSL_SSLV3_ALERT_BAD_RECORD_MAC', 'PEER has another key'],
  ['ERR_SSL_TLSV1_ALERT_DECRYPT_ERROR', 'PEER has another key'],
  ['ERR_SSL_SSLV3_ALERT_ILLEGAL_PARAMETER', 'PEER has another pre-shared key for this name'],
  ['ERR_SSL_TLSV1_ALERT_UNKNOWN_PSK_IDENTITY', 'PEER does not know this name'],
  ['ERR_SSL_PSK_IDENTITY_NOT_FOUND', 'PEER gave a name that is not in the file of pre-shared keys'],
])

/** Whether it is the peer's certificate that is wrong. */
export const isCertificateError = (error: unknown): boolean => CERTIFICATE_REASONS.has(codeOf(error))

/** Why a TLS handshake with `peer` failed, or a TLS connection broke, as a clause. `error` may be a mere code. */
export function tlsReason(error: unknown, peer: 'the server' | 'the client'): string {
  const code = codeOf(error)
  const certificate = CERTIFICATE_REASONS.get(code)
  if (certificate !== undefined) return `${peer}'s ${certificate}`
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return `${peer}'s certificate ${otherName(error)}`
  const known = REASONS.get(code)
  if (known !== undefined) return known.replace('PEER', peer)
  if (!(error instanceof Error)) return code
  return 'reason' in error && typeof error.reason === 'string' ? error.reason : error.message
}

/** Of what Node.js throws for a certificate that is good, and somebody else's. */
function otherName(error: unknown): string {
  const { host, cert } = error as { host?: string; cert?: { subjectaltname?: string; subject?: { CN?: string } } }
  const names = cert?.subjectaltname ?? cert?.subject?.CN ?? 'nobody'
  return `is made for '${names}', not for '${host ?? ''}'`
}

function codeOf(error: unknown): string {
  if (typeof error === 'string') return error
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}
