/** The options of `serve` about TLS, by the names that nbdkit has for them. */
import { Option, type Command } from 'commander'
import { ServerTls, type ServerTlsSettings } from '../server/starttls.js'
import { UsageError } from '../util/errors.js'

export interface TlsCommandOptions {
  readonly tls: 'off' | 'on' | 'require'
  readonly tlsCertificates?: string
  readonly tlsVerifyPeer?: boolean
  readonly tlsPsk?: string
}

/** What `serve` was asked for; the files are not read yet. */
export interface TlsChoice {
  readonly required: boolean
  readonly settings: ServerTlsSettings
}

export const addTlsOptions = (command: Command): Command =>
  command
    .addOption(
      new Option('--tls <mode>', 'encryption: off, on (clients may use it) or require (clients must use it)')
        .choices(['off', 'on', 'require'])
        .default('off'),
    )
    .addOption(
      new Option(
        '--tls-certificates <dir>',
        'folder with server-cert.pem, server-key.pem and ca-cert.pem, as QEMU and nbdkit have it',
      ).conflicts('tlsPsk'),
    )
    .option('--tls-verify-peer', 'serve only clients with a certificate of the CA in ca-cert.pem')
    .option('--tls-psk <file>', 'file with pre-shared keys, lines of NAME:HEXKEY as psktool writes them')

/** @throws UsageError */
export function tlsChoice({ tls, tlsCertificates, tlsVerifyPeer, tlsPsk }: TlsCommandOptions): TlsChoice | undefined {
  if (tlsVerifyPeer && tlsCertificates === undefined) {
    throw new UsageError('--tls-verify-peer goes with --tls-certificates: it is certificates that are verified')
  }
  const certificates = tlsCertificates && { certificates: tlsCertificates, verifyPeer: tlsVerifyPeer ?? false }
  const settings = certificates ?? (tlsPsk === undefined ? undefined : { pskFile: tlsPsk })
  if (tls === 'off') {
    // Silently serving in the clear what was meant to be encrypted would be worse than not serving.
    if (settings) throw new UsageError('--tls-certificates and --tls-psk go with --tls require (or --tls on)')
    return undefined
  }
  if (!settings) throw new UsageError(`--tls ${tls} goes with --tls-certificates or --tls-psk`)
  return { required: tls === 'require', settings }
}

/** Reads the files. @throws TlsError with a sentence for people */
export const loadTls = (choice: TlsChoice | undefined): ServerTls | undefined =>
  choice && new ServerTls(choice.settings, { required: choice.required })
