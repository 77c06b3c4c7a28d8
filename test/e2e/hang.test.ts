/** Promise P8: a main disk that hangs stops its own requests and nothing else. */
import { mkdtemp, open, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { RemapServer } from '../../qemu/remap-server.js'
import { StorageDaemon } from '../../qemu/storage-daemon.js'
import { packageRoot } from '../../src/cli/package-version.js'
import { NbdClient } from '../../src/nbd/client.js'
import { QmpCommandError, type QmpClient } from '../../src/qmp/index.js'
import { KiB, MiB } from '../../src/util/units.js'
import { cli } from '../support/cli.js'
import { FuseFile, needsFuse } from '../support/fuse-file.js'

interface Status {
  readonly 'data-plane': string
  readonly clients: readonly { readonly 'requests-in-flight': number }[]
}

void t.test('the control socket answers while the main disk hangs, and the requests go on when it wakes', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'nbd-hang-'))
  t.teardown(() => rm(directory, { recursive: true }))
  for (const name of ['main.img', 'spare.img']) {
    await writeFile(join(directory, name), '')
    await truncate(join(directory, name), 32 * MiB)
  }
  await using daemon = await StorageDaemon.start({
    directory,
    disks: [{ name: 'main', file: join(directory, 'main.img') }],
  })
  await using server = await RemapServer.start({
    program: join(packageRoot(), 'dist/src/cli/main.js'),
    directory,
    main: daemon.uri('main'),
    spare: join(directory, 'spare.img'),
    args: ['--create'],
  })
  const client = await NbdClient.connect(server.uri)
  await client.write(0, [Buffer.alloc(4096, 'before')])

  await daemon.process.kill('SIGSTOP')
  const content = Buffer.alloc(4096)
  const reads = [client.read(0, content), client.write(8192, [Buffer.alloc(512, 'during')])]
  const control = await server.control()
  const queue = async (): Promise<number> => {
    const status = (await control.execute('query-status')) as Status
    return status.clients[0]?.['requests-in-flight'] ?? 0
  }
  // The requests and the queries travel on different sockets: ask until they have met.
  while ((await queue()) < reads.length);
  t.equal(await queue(), 2, 'both requests hang, and the query is answered')
  t.match(await control.execute('query-stats'), { writes: 2 })
  t.match(await control.execute('query-remaps'), { remaps: [], total: 0 })
  await control.close()

  await daemon.process.kill('SIGCONT')
  await Promise.all(reads)
  t.same(content, Buffer.alloc(4096, 'before'), 'the read that hung has its data')
  await client.disconnect()
})

const fuse = needsFuse()

/** How many places the disk, of 32 MiB, has for reads that hang. */
const READS_MAX = 32
const TOKEN = 'a-token-for-this-test-alone'

async function httpGet(url: string, path: string): Promise<{ status: number; text: string }> {
  const response = await fetch(url + path, { headers: { authorization: `Bearer ${TOKEN}` } })
  return { status: response.status, text: await response.text() }
}

async function assertHttpAnswers(t: Test, url: string, reads: number): Promise<void> {
  const timesMs: number[] = []
  for (let n = 0; n < 10; n++) {
    const start = performance.now()
    t.match(await httpGet(url, '/metrics'), {
      status: 200,
      text: `\nnbd_remap_requests_total{operation="read"} ${reads}\n`,
    })
    t.match(await httpGet(url, '/healthz'), { text: /"score":/ })
    timesMs.push((performance.now() - start) / 2)
  }
  timesMs.sort((a, b) => a - b)
  t.ok((timesMs[5] ?? NaN) < 100, `half of the HTTP answers came within ${timesMs[5]?.toFixed(1) ?? ''} ms`)
}

/**
 * Stops the main disk and reads from it, until the server itself waits for that disk. A disk that was found to be slow, as
 * any is on a busy machine, is read in the thread pool, where a call that hangs disturbs nobody: then the disk goes on, and
 * is stopped again. The server tries it by itself after a while.
 */
async function hangTheServer(
  t: Test,
  main: FuseFile,
  client: NbdClient,
  control: QmpClient,
): Promise<{ content: Buffer; read: Promise<void>; requests: number }> {
  for (let attempt = 0; attempt < READS_MAX; attempt++) {
    await main.process.kill('SIGSTOP')
    const content = Buffer.alloc(4096)
    // Always elsewhere: what was read before is in the page cache.
    const read = client.read(contentOffset(attempt), content)
    const where = await whereItHangs(read, control)
    if (where === 'server') return { content, read, requests: attempt * 1001 + 1 }
    t.comment(`read ${attempt} hangs ${where}`)
    await main.process.kill('SIGCONT')
    await read
    // It comes back to a disk that answers from memory.
    for (let n = 0; n < 1000; n++) await client.read(0, content)
  }
  throw new Error(`none of ${READS_MAX} reads hung in the server itself`)
}

/** Apart from each other, and from what the server reads of main when it starts, by more than what is read ahead. */
const contentOffset = (attempt: number): number => attempt * MiB + 256 * KiB

/** The read and the questions travel on different sockets: asks until they have met, or nobody answers. */
async function whereItHangs(read: Promise<void>, control: QmpClient): Promise<'server' | 'in the pool' | 'nowhere'> {
  const answered = new AbortController()
  void read.then(() => {
    answered.abort()
  })
  for (;;) {
    try {
      await control.execute('query-remaps')
    } catch (error) {
      if (error instanceof QmpCommandError) return 'server'
      throw error
    }
    const status = (await control.execute('query-status')) as Status
    if (status.clients[0]?.['requests-in-flight'] === 1) return 'in the pool'
    // The signal came too late.
    if (answered.signal.aborted) return 'nowhere'
  }
}

void t.test('the control socket answers while the server itself hangs in a call to the main disk', fuse, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'nbd-fuse-'))
  await writeFile(join(directory, 'spare.img'), '')
  await truncate(join(directory, 'spare.img'), 32 * MiB)
  t.teardown(() => rm(directory, { recursive: true }))
  await writeFile(join(directory, 'token'), TOKEN, { mode: 0o600 })
  const main = await FuseFile.start(t, join(directory, 'mount'))
  const disk = await open(main.path, 'r+')
  for (let n = 0; n < READS_MAX; n++) await disk.write(Buffer.alloc(4096, 'before'), 0, 4096, contentOffset(n))
  await disk.close()
  await using server = await RemapServer.start({
    program: join(packageRoot(), 'dist/src/cli/main.js'),
    directory,
    main: main.path,
    spare: join(directory, 'spare.img'),
    args: [
      '--create',
      '--http',
      '127.0.0.1:0',
      '--http-token-file',
      join(directory, 'token'),
      '--log-file',
      join(directory, 'log'),
    ],
  })
  const url = / HTTP on (http:\S+)/.exec(await readFile(join(directory, 'log'), 'utf8'))?.[1] ?? ''
  const client = await NbdClient.connect(server.uri)
  await client.write(0, [Buffer.alloc(4096, 'during')])
  const control = await server.control()
  const status = async (): Promise<Status> => (await control.execute('query-status')) as Status
  t.match(await status(), { 'data-plane': 'running', clients: [{ 'requests-in-flight': 0 }] })

  const { content, read, requests } = await hangTheServer(t, main, client, control)
  t.match(await status(), { 'data-plane': 'stalled' })
  const timesMs: number[] = []
  for (let n = 0; n < 20; n++) {
    const start = performance.now()
    t.match(await status(), { 'data-plane': 'stalled', main: { size: 32 * MiB }, clients: [{ id: 1 }] })
    t.match(await control.execute('query-stats'), { writes: 1, reads: requests })
    timesMs.push((performance.now() - start) / 2)
  }
  await assertHttpAnswers(t, url, requests)
  t.match(await control.execute('query-remap-table'), { remaps: 0, buckets: 64 })
  t.match(await control.execute('query-log', { limit: 1 }), { entries: [{ number: 1 }] })
  t.match(await control.execute('query-device-lines'), { status: / stalled real$/ })
  const shown = await cli(t, 'status', '--control', server.controlPath)
  t.match(shown.stdout, /^STALLED: +a disk hangs.*^health: +\d+ of 100/ms, 'status is answered in all its parts')
  timesMs.sort((a, b) => a - b)
  t.ok(
    timesMs[10]! < 100,
    `half of the answers came within ${timesMs[10]!.toFixed(1)} ms, all within ${timesMs[19]!.toFixed(1)}`,
  )
  const questions = [control.execute('query-remaps'), control.execute('remap-add', { 'main-sector': 8, sectors: 8 })]
  const answers = await Promise.allSettled(questions)
  for (const answer of answers) t.match(answer, { reason: { message: /the data plane does not answer: a disk hangs/ } })

  t.match(await httpGet(url, '/healthz'), { status: 503, text: /"status":"stalled"/ }, 'after 5 s of silence')
  await main.process.kill('SIGCONT')
  await read
  t.same(content, Buffer.alloc(4096, 'before'), 'the read that hung has its data')
  // The control thread learns of it a moment later.
  while ((await status())['data-plane'] !== 'running');
  t.match(await control.execute('query-remaps'), { total: 0 }, 'a command that was given up is not carried out later')
  await control.close()
  await client.disconnect()
})
