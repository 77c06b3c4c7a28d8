/** `serve --replica`, with bad blocks under the main disk that QEMU's blkdebug makes. */
import { copyFileSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { FaultInjector } from '../../qemu/faults.js'
import { StorageDaemon } from '../../qemu/storage-daemon.js'
import { sector } from '../../src/util/units.js'
import { cli, fails, newFolder, newMain, newPair, newSpare, pattern, MAIN_SIZE, Serve } from '../support/cli.js'

void t.test('bad blocks are healed from the replica, but not those that were written', async (t) => {
  const folder = newFolder(t)
  const image = newMain(folder)
  const copy = join(folder, 'copy.img')
  copyFileSync(image, copy)
  await using daemon = await StorageDaemon.start({ directory: folder, disks: [{ name: 'main', file: image }] })
  const files = { folder, main: daemon.uri('main'), spare: newSpare(folder) }
  const server = await Serve.start(t, files, ['--create', '--replica', copy])
  const client = await server.connect()
  await client.write(8 * 4096, [Buffer.alloc(1024, 7)])
  await new FaultInjector(daemon, 'main').set([
    { sector: sector(32), operation: 'read' },
    { sector: sector(65), operation: 'read' },
  ])
  const content = Buffer.alloc(4096)
  await client.read(4 * 4096, content)
  t.same(content, pattern(MAIN_SIZE).subarray(4 * 4096, 5 * 4096))
  await t.rejects(client.read(8 * 4096, content), /NBD_EIO/)
  const control = ['--control', server.controlPath]
  const shown = await cli(t, 'replica', ...control)
  t.match(shown, { code: 0, stdout: /^state: +identical: .*\nchanged: +4 KiB\nhealed: +1 blocks$/m })
  await client.disconnect()
  await server.end()

  const next = await Serve.start(t, files, ['--replica', copy])
  t.match(next.stderr, /replica .* is stale/)
  t.match(JSON.parse((await cli(t, 'replica', '--control', next.controlPath, '--json')).stdout), {
    replica: { state: 'stale' },
  })
  await next.end()
})

void t.test('a replica that cannot be one is refused', async (t) => {
  const pair = newPair(t)
  const copy = join(pair.folder, 'copy.img')
  const serve = ['serve', '--main', pair.main, '--spare', pair.spare, '--create', '--socket', join(pair.folder, 's')]
  const refused = async (replica: string, sentence: RegExp): Promise<void> => {
    await fails(t, 3, sentence, [...serve, '--replica', replica], [pair.main])
  }
  await refused(pair.main, /are the same disk/)
  copyFileSync(pair.main, copy)
  truncateSync(copy, MAIN_SIZE - 4096)
  await refused(copy, /it is no copy/)
  await refused(newMain(pair.folder, 'other.img', 2), /differs from main .* in 64 of 64 samples/)
  await fails(t, 2, /--replica-in-sync goes with --replica/, [...serve, '--replica-in-sync'])
})
