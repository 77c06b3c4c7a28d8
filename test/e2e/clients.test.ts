/** Everybody's NBD clients through the real server process, while more and more of the main disk goes bad beneath it. */

import { writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { FaultInjector } from '../../qemu/faults.js'
import type { RemapServer } from '../../qemu/remap-server.js'
import { parseNbdUri } from '../../src/nbd/uri.js'
import { KiB, MiB } from '../../src/util/units.js'
import {
  assertIntact,
  Bench,
  BLOCK_SIZE,
  countRemaps,
  DecayingDisk,
  PROGRAM,
  type Statistics,
} from '../support/bench.js'
import { makeCredentials } from '../support/certificates.js'
import { nbdsh, run, runOk } from '../support/tools.js'
import { seededRandom } from '../support/random.js'

const MAIN_SIZE = 64 * MiB
const SPARE_SIZE = 16 * MiB
const BLOCKS_PER_DECAY = 12

const random = seededRandom(t)

/** How clients reach a server. */
interface Way {
  /** For libnbd. */
  readonly uri: string
  /** For fio, which cannot be told of certificates: libnbd takes any certificate over a unix socket then. */
  readonly fioUri: string
  /** For QEMU: options before the image, and the image as options. */
  readonly qemu: readonly string[]
  readonly image: string
}

interface Subject extends Way {
  readonly directory: string
  /** Called while clients are at work. */
  readonly decay: () => Promise<void>
}

/** Runs a client while the disk gets worse. */
async function meanwhile<T>({ decay }: Subject, client: Promise<T>): Promise<T> {
  const [result] = await Promise.all([client, decay()])
  return result
}

/** @param certificates of a client: with TLS, over a unix socket */
function wayTo({ uri, socketPath }: RemapServer, certificates?: string): Way {
  const { address } = parseNbdUri(uri)
  const host = 'host' in address ? `type=inet,server.host=${address.host},server.port=${address.port}` : ''
  const image = `driver=nbd,export=disk,server.${host || `type=unix,server.path=${socketPath}`}`
  if (certificates === undefined) return { uri, fioUri: uri, qemu: [], image }
  return {
    uri: `${uri}&tls-certificates=${certificates}`,
    fioUri: uri,
    qemu: ['--object', `tls-creds-x509,id=t0,endpoint=client,dir=${certificates}`],
    image: `${image},tls-creds=t0,tls-hostname=localhost`,
  }
}

async function lookAtIt(t: Test, { uri, qemu, image: disk }: Subject): Promise<void> {
  const info = JSON.parse(await runOk('nbdinfo', '--json', uri)) as { exports: unknown[] }
  const expected = {
    'export-name': 'disk',
    'export-size': MAIN_SIZE,
    is_read_only: false,
    can_flush: true,
    can_fua: true,
    can_trim: true,
    can_zero: true,
    block_size_minimum: 1,
  }
  t.match(info, { protocol: 'newstyle-fixed', exports: [expected] }, 'nbdinfo')
  const image = JSON.parse(await runOk('qemu-img', 'info', '--output=json', ...qemu, '--image-opts', disk)) as unknown
  t.match(image, { 'virtual-size': MAIN_SIZE }, 'qemu-img info')
}

/** A whole disk of random bytes and holes in, out again, and compared. */
async function copy(t: Test, subject: Subject): Promise<void> {
  const { uri, qemu, image } = subject
  const [before, after] = [join(subject.directory, 'before'), join(subject.directory, 'after')]
  await writeFile(before, diskContent())
  await meanwhile(
    subject,
    runOk('qemu-img', 'convert', ...qemu, '-n', '-f', 'raw', '--target-image-opts', before, image),
  )
  const file = `driver=raw,file.filename=${before}`
  t.equal((await run('qemu-img', 'compare', ...qemu, '--image-opts', file, image)).status, 0, 'qemu-img compare')
  await runOk('qemu-img', 'convert', ...qemu, '--image-opts', '-O', 'raw', image, after)
  t.equal((await run('cmp', before, after)).status, 0, 'what qemu-img convert copied in and out is the same')

  await writeFile(before, diskContent())
  await meanwhile(subject, runOk('nbdcopy', '--flush', before, uri))
  await runOk('nbdcopy', uri, after)
  t.equal((await run('cmp', before, after)).status, 0, 'what nbdcopy copied in and out is the same')
}

function diskContent(): Buffer {
  const content = Buffer.alloc(MAIN_SIZE)
  for (let offset = 0; offset < MAIN_SIZE; offset += 256 * KiB) {
    if (random.below(4) > 0) random.bytes(64 * KiB + random.below(192 * KiB)).copy(content, offset)
  }
  return content
}

async function patterns(t: Test, subject: Subject): Promise<void> {
  const write = ['write -P 0x41 1 511', 'write -P 0x42 1M 32M', 'write -f -P 0x43 5000000 12345', 'write -z 2M 1M']
  write.push(
    'aio_write -P 0x44 40M 1M',
    'aio_write -P 0x45 41M 1M',
    'aio_flush',
    'discard 50M 4M',
    'write -P 0x46 50M 4M',
  )
  const read = ['read -P 0x41 1 511', 'read -P 0x42 1M 1M', 'read -P 0x43 5000000 12345', 'read -P 0 2M 1M']
  read.push('read -P 0x44 40M 1M', 'read -P 0x45 41M 1M', 'read -P 0x46 50M 4M')
  const io = (commands: string[]): Promise<string> =>
    runOk('qemu-io', ...subject.qemu, '--image-opts', ...commands.flatMap((command) => ['-c', command]), subject.image)
  await meanwhile(subject, io([...write, 'flush']))
  t.notMatch(await io(read), /Pattern verification failed/, 'qemu-io')
}

async function script(t: Test, subject: Subject): Promise<void> {
  const program = `
h.pwrite(b'x' * 100, 4090, nbd.CMD_FLAG_FUA)
h.zero(5000, 8190)
h.flush()
assert h.pread(100, 4090) == b'x' * 100
assert h.pread(5000, 8190) == bytes(5000)
h.shutdown()`
  t.equal(await meanwhile(subject, nbdsh(subject.uri, program, 'h.set_uri_allow_local_file(True)')), '', 'nbdsh')
}

interface FioReport {
  readonly jobs: readonly {
    readonly error: number
    readonly read: { readonly total_ios: number }
    readonly write: { readonly total_ios: number }
  }[]
}

async function verifyWithFio(t: Test, subject: Subject): Promise<void> {
  const job = ['--name=verify', '--ioengine=nbd', `--uri=${subject.fioUri}`, `--randseed=${random.uint32()}`]
  job.push('--rw=randwrite', '--bsrange=512-256k', '--verify=crc32c', '--iodepth=16', '--fsync=50')
  job.push('--numjobs=4', '--size=16M', '--offset_increment=16M')
  // State files of fio go to its working directory otherwise.
  job.push('--verify_state_save=0', '--output-format=json')
  const output = await meanwhile(subject, runOk('fio', ...job))
  const { jobs } = JSON.parse(output.replace(/^[^{]*/, '')) as FioReport
  t.equal(jobs.length, 4)
  for (const { error, read, write } of jobs) {
    t.equal(error, 0, 'fio')
    t.ok(write.total_ios > 0 && read.total_ios === write.total_ios, 'fio has verified all that it wrote')
  }
}

async function allClients(t: Test, subject: Subject): Promise<void> {
  await lookAtIt(t, subject)
  await copy(t, subject)
  await patterns(t, subject)
  await script(t, subject)
  await verifyWithFio(t, subject)
}

async function stop(t: Test, server: RemapServer, spare: string): Promise<void> {
  t.same(await server.stop(), { code: 0, signal: null }, 'a clean stop')
  await assertIntact(t, spare)
}

const TRANSPORTS = ['a unix socket', 'TCP', 'TLS'] as const

async function start(t: Test, transport: (typeof TRANSPORTS)[number], bench: Bench, main: string) {
  const spare = bench.image('spare')
  const listen = transport === 'TCP' ? { listen: '127.0.0.1:0' } : {}
  if (transport !== 'TLS') {
    const server = await bench.startServer({ main, spare, args: ['--create'], ...listen })
    return { server, spare, way: wayTo(server) }
  }
  const { server: certificates, client } = await makeCredentials(t)
  const args = ['--create', '--tls', 'require', '--tls-certificates', certificates]
  const server = await bench.startServer({ main, spare, args })
  return { server, spare, way: wayTo(server, client) }
}

for (const transport of TRANSPORTS) {
  void t.test(`all clients over ${transport}, on a disk that decays`, async (t) => {
    const bench = await Bench.open(t, { main: MAIN_SIZE, spare: SPARE_SIZE })
    const daemon = await bench.startDaemon('main')
    const range = { first: 0, end: MAIN_SIZE / BLOCK_SIZE }
    const disk = new DecayingDisk(random, new FaultInjector(daemon, 'main'), range)
    const { server, spare, way } = await start(t, transport, bench, daemon.uri('main'))
    await disk.decay(BLOCKS_PER_DECAY)
    await allClients(t, { ...way, directory: bench.directory, decay: () => disk.decay(BLOCKS_PER_DECAY) })
    const statistics = await server.ask<Statistics>('query-stats')
    t.equal(statistics['failed-requests'], 0, 'no request failed')
    // fio has written every block at last, so every block that was bad before must have moved.
    const remaps = await countRemaps(server)
    t.ok(remaps >= disk.bad - BLOCKS_PER_DECAY, `${remaps} blocks are remapped, ${disk.bad} are bad`)
    t.ok(remaps <= disk.bad, 'and only blocks that are bad')
    await stop(t, server, spare)
  })
}

const healthy = (server: RemapServer, { directory }: Bench): Subject => ({
  ...wayTo(server),
  directory,
  decay: () => Promise.resolve(),
})

void t.test('all clients, on a file without faults', async (t) => {
  const bench = await Bench.open(t, { main: MAIN_SIZE, spare: SPARE_SIZE })
  const spare = bench.image('spare')
  const server = await bench.startServer({ main: bench.image('main'), spare, args: ['--create'] })
  await allClients(t, healthy(server, bench))
  t.equal(await countRemaps(server), 0)
  await stop(t, server, spare)
})

const canAttach = process.getuid?.() === 0 && existsSync('/dev/loop-control')

void t.test('all clients, on a block device', { skip: canAttach ? false : 'no loop devices here' }, async (t) => {
  const bench = await Bench.open(t, { main: MAIN_SIZE, spare: SPARE_SIZE })
  const main = (await runOk('losetup', '--find', '--show', bench.image('main'))).trim()
  t.teardown(() => runOk('losetup', '--detach', main))
  const spare = bench.image('spare')
  const server = await bench.startServer({ main, spare, args: ['--create'] })
  await allClients(t, healthy(server, bench))
  await stop(t, server, spare)
})

void t.test('a device that is no disk is refused in one sentence', async (t) => {
  const bench = await Bench.open(t, { spare: SPARE_SIZE })
  const args = ['--spare', bench.image('spare'), '--create', '--socket', join(bench.directory, 's')]
  const { status, stdout, stderr } = await run(process.execPath, PROGRAM, 'serve', '--main', '/dev/null', ...args)
  t.equal(status, 3)
  t.equal(stdout, '')
  t.match(stderr, /^nbd-remap: \/dev\/null is neither a file, nor a block device, nor an NBD URI .*\n$/)
})
