/**
 * TLS credentials made for one test, in the folders and files that QEMU, nbdkit and libnbd expect. Node.js can check
 * certificates but not issue them, so the `openssl` program does.
 */

import { randomBytes } from 'node:crypto'
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { temporaryDirectory } from './nbd-server.js'
import { runOk } from './tools.js'

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']

export interface Credentials {
  /** Server certificate for `localhost` and 127.0.0.1, with the CA. */
  readonly server: string
  /** Server certificate for `other.example` and nothing else. */
  readonly otherServer: string
  /** Server certificate of a foreign CA, for `localhost`. */
  readonly foreignServer: string
  /** Client certificate, with the CA. */
  readonly client: string
  /** The CA and no certificate. */
  readonly anonymous: string
  /** The CA that is trusted, and a client certificate of a foreign one. */
  readonly foreignClient: string
  /** What the server certificate is, but offered as a client's. */
  readonly wrongPurpose: string
  /** Folder of the file of pre-shared keys, which QEMU wants to be named `keys.psk`. */
  readonly pskDirectory: string
  /** With a key of `alice` and one of `bob`. */
  readonly pskFile: string
  readonly foreignPskDirectory: string
  /** With another key of `alice`, and one of `mallory`. */
  readonly foreignPskFile: string
}

class Authority {
  constructor(
    readonly directory: string,
    readonly name: string,
  ) {}

  path(file: 'cert' | 'key'): string {
    return join(this.directory, `${this.name}-${file}.pem`)
  }

  async create(): Promise<void> {
    const out = ['-keyout', this.path('key'), '-out', this.path('cert')]
    const usage = ['-addext', 'keyUsage=critical,keyCertSign,cRLSign']
    await runOk('openssl', 'req', '-x509', ...NEW_KEY, '-subj', `/CN=${this.name}`, ...out, ...usage)
  }

  /** Writes `ROLE-cert.pem` and `ROLE-key.pem`. */
  async issue(directory: string, role: 'server' | 'client', names?: string): Promise<void> {
    const out = ['-keyout', join(directory, `${role}-key.pem`), '-out', join(directory, `${role}-cert.pem`)]
    const issuer = ['-CA', this.path('cert'), '-CAkey', this.path('key')]
    const extensions = ['basicConstraints=critical,CA:FALSE', `extendedKeyUsage=${role}Auth`]
    if (names !== undefined) extensions.push(`subjectAltName=${names}`)
    const added = extensions.flatMap((extension) => ['-addext', extension])
    await runOk('openssl', 'req', '-x509', ...NEW_KEY, '-subj', `/CN=a ${role}`, ...issuer, ...out, ...added)
  }

  /** Writes the list of revoked certificates, with that one in it, to `ca-crl.pem` of each directory. */
  async revoke(certificate: string, ...directories: readonly string[]): Promise<void> {
    const config = join(this.directory, 'ca.cnf')
    const index = join(this.directory, 'index')
    await writeFile(index, '')
    await writeFile(config, `[ca]\ndefault_ca=this\n[this]\ndatabase=${index}\ndefault_md=sha256\ndefault_crl_days=2\n`)
    const ca = ['ca', '-batch', '-config', config, '-cert', this.path('cert'), '-keyfile', this.path('key')]
    await runOk('openssl', ...ca, '-revoke', certificate)
    const list = join(this.directory, 'crl.pem')
    await runOk('openssl', ...ca, '-gencrl', '-out', list)
    for (const directory of directories) await copyFile(list, join(directory, 'ca-crl.pem'))
  }
}

/** Removed when the test ends. */
export async function makeCredentials(t: Test): Promise<Credentials & { authority: Authority }> {
  const root = await temporaryDirectory(t)
  const authority = new Authority(root, 'ca')
  const foreign = new Authority(root, 'foreign')
  await Promise.all([authority.create(), foreign.create()])
  const folder = async (name: string): Promise<string> => {
    const path = join(root, name)
    await mkdir(path)
    await copyFile(authority.path('cert'), join(path, 'ca-cert.pem'))
    return path
  }
  const names = 'DNS:localhost,IP:127.0.0.1'
  const made = {
    server: await folder('server'),
    otherServer: await folder('other-server'),
    foreignServer: await folder('foreign-server'),
    client: await folder('client'),
    anonymous: await folder('anonymous'),
    foreignClient: await folder('foreign-client'),
    wrongPurpose: await folder('wrong-purpose'),
    pskDirectory: await folder('psk'),
    foreignPskDirectory: await folder('foreign-psk'),
  }
  await Promise.all([
    authority.issue(made.server, 'server', names),
    authority.issue(made.otherServer, 'server', 'DNS:other.example'),
    foreign.issue(made.foreignServer, 'server', names),
    authority.issue(made.client, 'client'),
    foreign.issue(made.foreignClient, 'client'),
  ])
  for (const file of ['cert', 'key']) {
    await copyFile(join(made.server, `server-${file}.pem`), join(made.wrongPurpose, `client-${file}.pem`))
  }
  const pskFile = join(made.pskDirectory, 'keys.psk')
  const foreignPskFile = join(made.foreignPskDirectory, 'keys.psk')
  const key = (): string => randomBytes(32).toString('hex')
  await writeFile(pskFile, `alice:${key()}\nbob:${key()}\n`)
  await writeFile(foreignPskFile, `alice:${key()}\nmallory:${key()}\n`)
  return { ...made, pskFile, foreignPskFile, authority }
}

/** An `nbds:` or `nbds+unix:` URI in place of one without TLS, with parameters and perhaps `user@`. */
export function overTls(uri: string, parameters: Readonly<Record<string, string>>, user = ''): string {
  const secured = uri.replace(/^nbd/, 'nbds').replace('://', `://${user === '' ? '' : `${user}@`}`)
  const query = Object.entries(parameters).map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
  return query.length === 0 ? secured : `${secured}${secured.includes('?') ? '&' : '?'}${query.join('&')}`
}
