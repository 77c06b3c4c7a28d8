/** Promise P8: a main disk that hangs stops its own requests and nothing else. */
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { RemapServer } from '../../qemu/remap-server.js'
import { StorageDaemon } from '../../qemu/storage-daemon.js'
import { packageRoot } from '../../src/cli/package-version.js'
import { NbdClient } from '../../src/nbd/client.js'
import { MiB } from '../../src/util/units.js'
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

const TOKEN = 'a-token-for-this-test-alone'

async function httpGet(url: string, path: string): Promise<{ status: number; text: string }> {
  const response = await fetch(url + path, { headers: { authorization: `Bearer ${TOKEN}` } })
  return { status: response.status, text: await response.text() }
}

async function assertHttpAnswers(t: Test, url: string): Promise<void> {
  const timesMs: number[] = []
  for (let n = 0; n < 10; n++) {
    const start = performance.now()
    t.match(await httpGet(url, '/metrics'), { status: 200, text: /^nbd_remap_requests_total\{operation="read"\} 1$/m })
    t.match(await httpGet(url, '/healthz'), { text: /"score":/ })
    timesMs.push((performance.now() - start) / 2)
  }
  timesMs.sort((a, b) => a - b)
  t.ok((timesMs[5] ?? NaN) < 100, `half of the HTTP answers came within ${timesMs[5]?.toFixed(1) ?? ''} ms`)
}

void t.test('the control socket answers while the server itself hangs in a call to the main disk', fuse, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'nbd-fuse-'))
  await writeFile(join(directory, 'spare.img'), '')
  await truncate(join(directory, 'spare.img'), 32 * MiB)
  t.teardown(() => rm(directory, { recursive: true }))
  await writeFile(join(directory, 'token'), TOKEN, { mode: 0o600 })
  const main = await FuseFile.start(t, join(directory, 'mount'))
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
  await client.write(10 * MiB, [Buffer.alloc(4096, 'before')])
  const control = await server.control()
  const status = async (): Promise<Status> => (await control.execute('query-status')) as Status
  t.match(await status(), { 'data-plane': 'running', clients: [{ 'requests-in-flight': 0 }] })

  await main.process.kill('SIGSTOP')
  const content = Buffer.alloc(4096)
  const read = client.read(10 * MiB, content)
  while ((await status())['data-plane'] !== 'stalled');
  const timesMs: number[] = []
  for (let n = 0; n < 20; n++) {
    const start = performance.now()
    t.match(await status(), { 'data-plane': 'stalled', main: { size: 32 * MiB }, clients: [{ id: 1 }] })
    t.match(await control.execute('query-stats'), { writes: 1, reads: 1 })
    timesMs.push((performance.now() - start) / 2)
  }
  await assertHttpAnswers(t, url)
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
  t.match(await status(), { 'data-plane': 'running' })
  t.match(await control.execute('query-remaps'), { total: 0 }, 'a command that was given up is not carried out later')
  await control.close()
  await client.disconnect()
})
