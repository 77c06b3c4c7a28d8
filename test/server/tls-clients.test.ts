/** Real clients over TLS: certificates and pre-shared keys, TCP and unix sockets. */

import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ServerTls, type ServerTlsSettings } from '../../src/server/starttls.js'
import { MiB } from '../../src/util/units.js'
import { makeCredentials, overTls } from '../support/certificates.js'
import { pattern } from '../support/cli.js'
import { type Served, serve, temporaryDirectory } from '../support/nbd-server.js'
import { run, runOk } from '../support/tools.js'

const credentials = await makeCredentials(t)
const { server: certificates, client, pskFile, pskDirectory } = credentials

interface Way {
  readonly name: string
  readonly settings: ServerTlsSettings
  /** For libnbd. */
  readonly parameters: Readonly<Record<string, string>>
  readonly user: string
  /** For QEMU. */
  readonly object: string
}

const WAYS: readonly Way[] = [
  {
    name: 'certificates',
    settings: { certificates, verifyPeer: true },
    parameters: { 'tls-certificates': client },
    user: '',
    object: `tls-creds-x509,id=t0,endpoint=client,dir=${client}`,
  },
  {
    name: 'pre-shared keys',
    settings: { pskFile },
    parameters: { 'tls-psk-file': pskFile },
    user: 'alice',
    object: `tls-creds-psk,id=t0,endpoint=client,dir=${pskDirectory},username=alice`,
  },
]

interface Place {
  /** Without TLS. */
  readonly uri: string
  /** As QEMU's options. */
  readonly address: string
}

async function open(
  t: Test,
  settings: ServerTlsSettings,
  size: number,
): Promise<Served & { places: Record<string, Place> }> {
  const served = await serve(t, { tls: new ServerTls(settings, { required: true }) }, size)
  const bound = await served.server.listen({ host: '127.0.0.1', port: 0 })
  const port = 'port' in bound ? bound.port : 0
  const places = {
    TCP: {
      uri: `nbd://localhost:${port}/main`,
      address: `server.type=inet,server.host=localhost,server.port=${port}`,
    },
    unix: {
      uri: `nbd+unix:///main?socket=${served.path}`,
      address: `server.type=unix,server.path=${served.path}`,
    },
  }
  return { ...served, places }
}

for (const { name, settings, parameters, user, object } of WAYS) {
  for (const transport of ['TCP', 'unix'] as const) {
    void t.test(`libnbd with ${name} over ${transport}`, async (t) => {
      const { places, device } = await open(t, settings, 16 * MiB)
      const uri = overTls(places[transport]?.uri ?? '', parameters, user)
      t.match(
        await runOk('nbdinfo', uri),
        /^protocol: newstyle-fixed with TLS, using structured packets\nexport="main"/,
      )
      t.match(await runOk('nbdinfo', '--list', uri), /export="main"/)
      const folder = await temporaryDirectory(t)
      const content = pattern(16 * MiB)
      await writeFile(join(folder, 'in'), content)
      await runOk('nbdcopy', '--flush', '--connections=3', join(folder, 'in'), uri)
      t.ok(device.data.equals(content), 'what was sent arrived')
      await runOk('nbdcopy', '--connections=3', '--request-size=33554432', uri, join(folder, 'out'))
      t.ok((await readFile(join(folder, 'out'))).equals(content), 'and came back')
    })

    void t.test(`QEMU with ${name} over ${transport}`, async (t) => {
      const { places } = await open(t, settings, 64 * MiB)
      const hostname = transport === 'unix' && object.includes('x509') ? ',tls-hostname=localhost' : ''
      const address = places[transport]?.address ?? ''
      const image = ['--object', object, '--image-opts', `driver=nbd,${address},export=main,tls-creds=t0${hostname}`]
      const info = JSON.parse(await runOk('qemu-img', 'info', '--output=json', ...image)) as Record<string, unknown>
      t.match(info, { 'virtual-size': 64 * MiB })
      const commands = [
        ...['write -P 0x41 1 511', 'read -P 0x41 1 511', 'write -P 0x42 1M 32M', 'read -P 0x42 1M 32M'],
        ...['aio_write -P 0x43 40M 1M', 'aio_write -P 0x44 41M 1M', 'aio_flush', 'write -z 2M 1M', 'read -P 0 2M 1M'],
        ...['discard 50M 4M', 'flush', 'read -P 0x43 40M 1M', 'read -P 0x44 41M 1M'],
      ].flatMap((command) => ['-c', command])
      const output = await runOk('qemu-io', ...image, ...commands)
      t.notMatch(output, /Pattern verification failed|error|failed/i)
      t.match(output, /wrote 33554432\/33554432 bytes at offset 1048576/)
    })
  }
}

void t.test('fio verifies what it wrote', async (t) => {
  // It cannot be told of certificates or keys; libnbd takes any certificate over a unix socket then.
  const { places } = await open(t, { certificates, verifyPeer: false }, 16 * MiB)
  const uri = overTls(places['unix']?.uri ?? '', {})
  const job = [
    '--name=x',
    '--ioengine=nbd',
    `--uri=${uri}`,
    '--rw=randrw',
    '--bsrange=4k-256k',
    '--size=16m',
    '--io_size=32m',
  ]
  const output = await runOk(
    'fio',
    ...job,
    '--iodepth=16',
    '--verify=crc32c',
    '--verify_fatal=1',
    '--verify_state_save=0',
  )
  t.match(output, /err= 0/)
})

void t.test('a client without TLS is told that it is required', async (t) => {
  const { places } = await open(t, { pskFile }, MiB)
  const uri = places['TCP']?.uri ?? ''
  const refused = await run('nbdinfo', uri)
  t.not(refused.status, 0)
  t.match(refused.stderr, /Operation not supported/)
  const qemu = await run('qemu-img', 'info', uri)
  t.not(qemu.status, 0)
  t.match(qemu.stderr, /Did you forget a valid tls-creds/)
})

void t.test('clients with credentials that are not known are refused', async (t) => {
  const { foreignClient, foreignPskFile, foreignPskDirectory } = credentials
  const x509 = `tls-creds-x509,id=t0,endpoint=client,sanity-check=off,dir=${foreignClient}`
  const psk = `tls-creds-psk,id=t0,endpoint=client,dir=${foreignPskDirectory},username=alice`
  for (const [settings, parameters, object] of [
    [{ certificates, verifyPeer: true }, { 'tls-certificates': foreignClient }, x509],
    [{ pskFile }, { 'tls-psk-file': foreignPskFile }, psk],
  ] as const) {
    const { places, lines } = await open(t, settings, MiB)
    const { uri, address } = places['TCP'] ?? { uri: '', address: '' }
    const libnbd = await run('nbdinfo', overTls(uri, parameters, 'alice'))
    t.not(libnbd.status, 0, libnbd.stderr)
    t.equal(libnbd.stdout, '')
    const image = ['--image-opts', `driver=nbd,${address},export=main,tls-creds=t0`]
    const qemu = await run('qemu-img', 'info', '--object', object, ...image)
    t.not(qemu.status, 0, qemu.stderr)
    t.notOk(lines.some((line) => line.includes('connected to export')))
  }
})
