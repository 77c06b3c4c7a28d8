/** Upstreams that other programs serve over TLS, and that go away and come back. */

import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openDisk } from '../../src/device/open.js'
import { UpstreamDevice } from '../../src/device/upstream.js'
import { silentLog } from '../../src/util/log.js'
import { MiB } from '../../src/util/units.js'
import { makeCredentials, overTls } from '../support/certificates.js'
import { pattern } from '../support/cli.js'
import { recordingLog, until } from '../support/nbd-server.js'
import { imageFile, startUpstream, type UpstreamServer } from '../support/upstream-servers.js'

const credentials = await makeCredentials(t)
const { server, client, pskFile, pskDirectory } = credentials

const withCertificates = (uri: string): string => overTls(uri, { 'tls-certificates': client })
const withKey = (uri: string): string => overTls(uri, { 'tls-psk-file': pskFile }, 'alice')

const SERVERS: Readonly<Record<string, (t: Test, image: string) => Promise<UpstreamServer>>> = {
  'nbdkit, certificates': (t, image) =>
    startUpstream(
      t,
      '',
      (socket) => [
        ...(['nbdkit', '-f', '-U', socket, '--tls=require'] as const),
        ...[`--tls-certificates=${server}`, '--tls-verify-peer', 'file', image],
      ],
      withCertificates,
    ),
  'nbdkit, pre-shared keys': (t, image) =>
    startUpstream(
      t,
      '',
      (socket) => ['nbdkit', '-f', '-U', socket, '--tls=require', `--tls-psk=${pskFile}`, 'file', image],
      withKey,
    ),
  'qemu-nbd, certificates': (t, image) =>
    startUpstream(
      t,
      'main',
      (socket) => [
        ...(['qemu-nbd', '-k', socket, '-x', 'main', '-t', '-f', 'raw'] as const),
        ...[
          '--object',
          `tls-creds-x509,id=t0,endpoint=server,verify-peer=on,dir=${server}`,
          '--tls-creds',
          't0',
          image,
        ],
      ],
      withCertificates,
    ),
  'qemu-nbd, pre-shared keys': (t, image) =>
    startUpstream(
      t,
      'main',
      (socket) => [
        ...(['qemu-nbd', '-k', socket, '-x', 'main', '-t', '-f', 'raw'] as const),
        ...['--object', `tls-creds-psk,id=t0,endpoint=server,dir=${pskDirectory}`, '--tls-creds', 't0', image],
      ],
      withKey,
    ),
}

async function readAt(device: UpstreamDevice, offset: number, length: number): Promise<Buffer> {
  const into = Buffer.alloc(length)
  await device.read(offset, into)
  return into
}

for (const [name, start] of Object.entries(SERVERS)) {
  void t.test(`${name}: reads and writes, and goes on when the server was killed`, async (t) => {
    const image = await imageFile(t, 8 * MiB)
    const upstream = await start(t, image)
    const { log, lines } = recordingLog()
    const device = await UpstreamDevice.open(upstream.uri, { log })
    t.teardown(() => device.close())
    const content = pattern(8 * MiB)
    await device.write(0, [content.subarray(0, 4 * MiB)])
    await device.flush()
    t.ok((await readAt(device, 0, 4 * MiB)).equals(content.subarray(0, 4 * MiB)))
    await upstream.kill()
    const written = device.write(4 * MiB, [content.subarray(4 * MiB)], { fua: true })
    await until(() => lines.some((line) => line.includes('reconnecting')))
    await upstream.start()
    await written
    t.ok((await readAt(device, 0, 8 * MiB)).equals(content))
    t.ok(lines.some((line) => line.includes('reconnected to NBD server at nbds+unix:')))
  })
}

void t.test('renewed certificates are used for the next connection', async (t) => {
  const renewed = await makeCredentials(t)
  const own = await makeCredentials(t)
  const image = await imageFile(t, MiB)
  const upstream = await startUpstream(
    t,
    '',
    (socket) => [
      ...(['nbdkit', '-f', '-U', socket, '--tls=require'] as const),
      ...[`--tls-certificates=${own.server}`, '--tls-verify-peer', 'file', image],
    ],
    (uri) => overTls(uri, { 'tls-certificates': own.client }),
  )
  const device = await UpstreamDevice.open(upstream.uri, { log: silentLog })
  t.teardown(() => device.close())
  await upstream.kill()
  for (const role of ['server', 'client'] as const) await cp(renewed[role], own[role], { recursive: true })
  await upstream.start()
  await device.write(0, [pattern(4096)], { fua: true })
  t.ok((await readAt(device, 0, 4096)).equals(pattern(4096)))
})

void t.test('a disk is the same with and without TLS, and whatever the credentials', async (t) => {
  const image = await imageFile(t, MiB)
  const upstream = await startUpstream(
    t,
    '',
    (socket) => ['nbdkit', '-f', '-U', socket, '--tls=on', `--tls-psk=${pskFile}`, 'file', image],
    withKey,
  )
  const plain = `nbd+unix:///?socket=${join(upstream.directory, 's')}`
  const options = { readOnly: true, log: silentLog }
  const disks = await Promise.all([upstream.uri, plain].map((uri) => openDisk(uri, options)))
  t.teardown(() => Promise.all(disks.map(({ device }) => device.close())))
  t.equal(disks[0]?.identity.id, disks[1]?.identity.id)
  t.equal(disks[0]?.sameness, disks[1]?.sameness)
  await t.rejects(openDisk(plain, { ...options, readOnly: false }), { name: 'RefusedError' })
})
