/** `nbd-remap scrub`, over a main disk with bad blocks that QEMU's blkdebug makes, and with a replica. */
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { FaultInjector } from '../../qemu/faults.js'
import { StorageDaemon } from '../../qemu/storage-daemon.js'
import { QmpClient } from '../../src/qmp/client.js'
import { sector } from '../../src/util/units.js'
import { cli, fails, MAIN_SIZE, newFolder, newMain, newPair, newSpare, pattern, Serve } from '../support/cli.js'

void t.test('a scrub heals what nobody has missed yet', async (t) => {
  const folder = newFolder(t)
  const image = newMain(folder)
  const copy = join(folder, 'copy.img')
  copyFileSync(image, copy)
  await using daemon = await StorageDaemon.start({ directory: folder, disks: [{ name: 'main', file: image }] })
  const files = { folder, main: daemon.uri('main'), spare: newSpare(folder) }
  const server = await Serve.start(t, files, ['--create', '--replica', copy])
  const injector = new FaultInjector(daemon, 'main')
  await injector.set([
    { sector: sector(32), operation: 'read' },
    { sector: sector(5000), operation: 'read' },
  ])
  const control = ['--control', server.controlPath]
  t.match(await cli(t, 'scrub', ...control), { code: 0, stdout: /^scrub: +idle, 16 MiB a second$/m })
  const client = await QmpClient.connect(server.controlPath)
  const completed = client.events('SCRUB_COMPLETED')
  t.match(await cli(t, 'scrub', ...control, '--start', '--speed', '0'), { code: 0 })
  t.match(await completed.next(), { data: { 'healed-blocks': 2, 'lost-sectors': 0 } })
  await client.close()
  t.match(JSON.parse((await cli(t, 'scrub', ...control, '--json')).stdout), {
    state: 'completed',
    position: MAIN_SIZE,
    speed: 0,
  })
  await server.end()
  const next = await Serve.start(t, files, [])
  t.same(await next.read(0, MAIN_SIZE), pattern(MAIN_SIZE), 'without the replica, and with the faults')
  await next.end()
})

void t.test('a scrub goes on after a stop of the server, clean or not', async (t) => {
  const pair = newPair(t)
  let server = await Serve.start(t, pair)
  const scrub = (...args: string[]) => cli(t, 'scrub', '--control', server.controlPath, ...args)
  await fails(t, 1, /no scrub is running/, ['scrub', '--control', server.controlPath, '--stop'])
  await fails(t, 2, /number of bytes, such as 50M/, ['scrub', '--control', server.controlPath, '--speed', 'fast'])
  t.match(await scrub('--start', '--speed', '1K'), { code: 0, stdout: /running, 1 KiB a second/ })
  await fails(t, 1, /running already/, ['scrub', '--control', server.controlPath, '--start'])
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    await server.end(signal)
    server = await Serve.start(t, pair, [])
    t.match(await scrub(), { stdout: /running, 1 KiB a second/ }, signal)
  }
  t.match(await scrub('--stop'), { code: 0, stdout: /stopped, .*\nread: +\d+ KiB of 4 MiB/ })
  t.match(await scrub('--restart', '--speed', '0'), { code: 0, stdout: /^scrub: +(running|completed), no limit/ })
  t.same(await server.end(), { code: 0, signal: null })
})
