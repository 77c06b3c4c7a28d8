/** Disks that hang under a server with deadlines: its clients are answered, and it stops. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { FuseFile, needsFuse } from '../support/fuse-file.js'
import { StorageDaemon } from '../../qemu/storage-daemon.js'
import { QmpClient } from '../../src/qmp/client.js'
import { MiB } from '../../src/util/units.js'
import {
  MANY_PROCESSES_TIMEOUT_MS,
  newFolder,
  newMain,
  newSpare,
  pattern,
  Serve,
  type ServeFiles,
} from '../support/cli.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

// The program sets it when it starts, which is too late where something is preloaded, as tap does.
process.env['UV_THREADPOOL_SIZE'] = '32'

const eio = /NBD_EIO/
const block = (value: number): Buffer => Buffer.alloc(4096, value)

/** A pair whose main disk is an export of a qemu-storage-daemon. */
async function upstreamPair(t: Test): Promise<{ daemon: StorageDaemon; files: ServeFiles; image: string }> {
  const folder = newFolder(t)
  const image = newMain(folder)
  const daemon = await StorageDaemon.start({ directory: folder, disks: [{ name: 'main', file: image }] })
  t.teardown(async () => {
    await daemon.process.kill('SIGCONT')
    await daemon.close()
  })
  return { daemon, image, files: { folder, main: daemon.uri('main'), spare: newSpare(folder) } }
}

void t.test('writes to a disk that hangs move to the spare, and what lands late changes nothing', async (t) => {
  const { daemon, files } = await upstreamPair(t)
  const server = await Serve.start(t, files, ['--create', '--io-timeout', '0.4', '--on-timeout', 'remap'])
  const client = await server.connect()
  const control = await QmpClient.connect(server.controlPath)
  const events = control.events('IO_TIMEOUT', 'DISK_RESPONDS', 'IO_ERROR')
  await client.write(0, [block(1)])
  await client.flush()

  await daemon.process.kill('SIGSTOP')
  await client.write(4096, [block(2), block(2)])
  t.match(await events.next(), {
    event: 'IO_TIMEOUT',
    data: { disk: 'main', operation: 'write', sector: 8, sectors: 16, hangs: true },
  })
  t.match(await server.ask('query-error-regions'), {
    regions: [{ 'main-sector': 0, timeouts: 1 }],
    totals: { timeouts: 1 },
  })
  for (const sector of [8, 16]) {
    t.match(await events.next(), {
      event: 'IO_ERROR',
      data: { sector, error: 'ETIMEDOUT', action: 'remapped' },
    })
  }
  await client.write(4096, [block(3)])
  await client.flush()
  const content = Buffer.alloc(8192)
  await client.read(4096, content)
  t.same(content, Buffer.concat([block(3), block(2)]), 'in force on the spare')
  await t.rejects(client.read(0, content), eio, 'what only the disk has cannot be had')
  t.match(await server.ask('query-status'), { remaps: 2, 'data-plane': 'running' })

  await daemon.process.kill('SIGCONT')
  while ((await events.next()).event !== 'DISK_RESPONDS');
  await client.read(0, content)
  t.same(content, Buffer.concat([block(1), block(3)]))
  await client.read(4096, content)
  t.same(content, Buffer.concat([block(3), block(2)]), 'the late write is not seen')
  await control.close()
  await client.disconnect()
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test('a late write and a newer one do not meet on the disk', async (t) => {
  const { daemon, files } = await upstreamPair(t)
  const server = await Serve.start(t, files, ['--create', '--io-timeout', '0.3'])
  const client = await server.connect()
  await client.write(8192, [block(9)])
  await daemon.process.kill('SIGSTOP')
  await t.rejects(client.write(0, [block(1)]), eio)
  await t.rejects(client.write(0, [block(2)]), eio)
  t.match(await server.ask('query-error-regions'), { totals: { timeouts: 1 } }, 'refused at once, and not sent')
  await t.rejects(client.flush(), eio, 'a flush that is not answered is no flush')
  await daemon.process.kill('SIGCONT')
  for (let done = false; !done;) {
    done = await client.write(0, [block(3)]).then(
      () => true,
      () => false,
    )
  }
  await client.flush()
  const content = Buffer.alloc(4096)
  await client.read(0, content)
  t.same(content, block(3))
  await client.disconnect()
})

void t.test('a clean stop does not wait for ever for a disk that hangs', async (t) => {
  for (const args of [
    ['--stop-timeout', '0.5'],
    ['--io-timeout', '0.3'],
  ]) {
    const { daemon, files } = await upstreamPair(t)
    const server = await Serve.start(t, files, ['--create', ...args])
    const client = await server.connect()
    await client.write(0, [block(1)])
    await daemon.process.kill('SIGSTOP')
    const write = client.write(4096, [block(2)]).catch(() => undefined)
    t.same(await server.end(), { code: 1, signal: null }, args.join(' '))
    t.match(server.stderr, /^nbd-remap: .*(a disk hangs|could not be stopped cleanly)/m)
    await write
    client.destroy()
    await daemon.process.kill('SIGCONT')
    const next = await Serve.start(t, files, [], 'b')
    t.same((await next.read(0, 4096)).subarray(0, 512), pattern(4096).subarray(0, 512).fill(1))
    await next.end()
  }
})

void t.test('a spare that hangs keeps nobody waiting, and what it held moves on as it is written', async (t) => {
  const folder = newFolder(t)
  const image = newSpare(folder)
  const daemon = await StorageDaemon.start({ directory: folder, disks: [{ name: 'spare', file: image }] })
  t.teardown(async () => {
    await daemon.process.kill('SIGCONT')
    await daemon.close()
  })
  const files = { folder, main: newMain(folder), spare: daemon.uri('spare') }
  const server = await Serve.start(t, files, ['--create', '--io-timeout', '0.4'])
  const client = await server.connect()
  const control = await QmpClient.connect(server.controlPath)
  const events = control.events('IO_TIMEOUT', 'DISK_RESPONDS')
  await server.ask('remap-add', { 'main-sector': 8, sectors: 24 })
  await client.write(4096, [block(1), block(1), block(1)])
  await client.flush()
  const other = newSpare(folder, 'other.img')
  await server.ask('spare-add', { path: other })

  await daemon.process.kill('SIGSTOP')
  await t.rejects(client.read(4096, Buffer.alloc(4096)), eio, 'what only the spare has cannot be had')
  t.match(await events.next(), {
    event: 'IO_TIMEOUT',
    data: { disk: 'spare', name: files.spare, operation: 'read', hangs: true },
  })
  const content = Buffer.alloc(4096)
  await client.read(0, content)
  t.same(content, pattern(4096), 'what main has is read')
  await client.write(8192, [block(2)])
  await t.rejects(client.write(4096 + 512, [Buffer.alloc(512, 3)]), eio, 'the rest of the block is not to be had')
  await client.read(8192, content)
  t.same(content, block(2), 'a whole block has moved to the other spare')
  t.match(await server.ask('query-status'), { remaps: 3, 'data-plane': 'running' })

  await daemon.process.kill('SIGCONT')
  while ((await events.next()).event !== 'DISK_RESPONDS');
  await client.read(3 * 4096, content)
  t.same(content, block(1))
  await client.read(8192, content)
  t.same(content, block(2))
  await client.flush()
  await control.close()
  await client.disconnect()
  t.same(await server.end(), { code: 0, signal: null })
})

const fuse = needsFuse()
/** The start reads 64 samples of the 32 MiB. */
const SAMPLED_EVERY = MiB / 2

void t.test('a local disk that hangs keeps only those waiting who need it, and not the stop', fuse, async (t) => {
  const folder = newFolder(t)
  const main = await FuseFile.start(t, join(folder, 'mount'))
  const files = { folder, main: main.path, spare: newSpare(folder) }
  const server = await Serve.start(t, files, ['--create', '--io-timeout', '0.3', '--on-timeout', 'remap'])
  const client = await server.connect()
  await client.write(0, [block(1)])
  await client.flush()
  await main.process.kill('SIGSTOP')
  // Where nobody has read yet: what the kernel has, or has read ahead, is read from its memory while the disk hangs.
  const reads = [0, 1, 2, 3, 4, 5].map((n) => client.read((n + 0.5) * SAMPLED_EVERY, Buffer.alloc(4096)))
  const write = client.write(8 * 4096, [block(2)])
  t.match(await server.ask('query-status'), { 'data-plane': 'running' })
  for (const read of reads) await t.rejects(read, eio)
  await write
  const content = Buffer.alloc(4096)
  await client.read(8 * 4096, content)
  t.same(content, block(2), 'remapped')
  await client.disconnect()
  const { code, signal } = await server.end()
  t.ok(code === 1 || signal === 'SIGKILL', `ended with ${String(code ?? signal)}`)
  t.match(server.stderr, /^nbd-remap: the pair could not be stopped cleanly/m)
})
