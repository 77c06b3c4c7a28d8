/** The last spare block is gone while a guest writes: the machine pauses, gets a spare, goes on, and has lost nothing. */
import path from 'node:path'
import t from 'tap'
import { FaultInjector, guestImage, Machine, StorageDaemon } from '../../qemu/index.js'
import { RemapServer } from '../../qemu/remap-server.js'
import { MiB, sector } from '../../src/util/units.js'
import { PROGRAM } from '../support/bench.js'
import { runOk } from '../support/tools.js'
import { imageFile, socketDirectory } from '../support/upstream-servers.js'

// A boot under emulation takes seconds, and on a busy machine many.
t.setTimeout(300_000)

/** Room for two blocks. */
const SMALL_SPARE = 8 * MiB + 2 * 4096 + 2 * 4096
const BAD_BLOCKS = [100, 200, 300, 400]
const EVENT_TIMEOUT_MS = 60_000

void t.test('a machine that was paused for want of spare blocks continues without loss', async (t) => {
  const directory = await socketDirectory(t)
  const main = await imageFile(t, 16 * MiB)
  await using daemon = await StorageDaemon.start({ directory, disks: [{ name: 'main', file: main }] })
  await using server = await RemapServer.start({
    program: PROGRAM,
    directory,
    main: daemon.uri('main'),
    spare: await imageFile(t, SMALL_SPARE),
    args: ['--create', '--on-exhausted', 'pause'],
  })
  await using machine = await Machine.start({
    directory,
    ...(await guestImage()),
    drives: [{ nodeName: 'disk', source: { nbd: { path: server.socketPath, reconnectDelaySeconds: 60 } } }],
  })
  const guest = await machine.guest()
  const faults = BAD_BLOCKS.map((block) => ({ sector: sector(block * 8), operation: 'write' as const }))
  await new FaultInjector(daemon, 'main').set(faults)
  await guest.check('dd if=/dev/urandom of=/tmp/data bs=1M count=2')
  using paused = machine.qmp.events('BLOCK_IO_ERROR', 'STOP')

  const writing = guest.run('dd if=/tmp/data of=/dev/vda bs=1M oflag=direct && sync', {
    timeoutMs: EVENT_TIMEOUT_MS * 3,
  })
  t.match(await paused.next({ timeoutMs: EVENT_TIMEOUT_MS }), {
    event: 'BLOCK_IO_ERROR',
    data: { nospace: true, operation: 'write', action: 'stop' },
  })
  t.match(await paused.next({ timeoutMs: EVENT_TIMEOUT_MS }), { event: 'STOP' })
  t.match(await machine.qmp.execute('query-status'), { status: 'io-error' })

  const more = await imageFile(t, 10 * MiB)
  const added = await runOk(process.execPath, PROGRAM, 'spare', 'add', '--control', server.controlPath, more)
  t.match(added, path.basename(more))
  await machine.qmp.execute('cont')
  t.match(await writing, { status: 0 })

  await guest.check('echo 3 > /proc/sys/vm/drop_caches')
  t.match(await guest.run('head -c 2097152 /dev/vda | cmp - /tmp/data'), { status: 0 })
  t.match(await server.ask('query-spares'), {
    spares: [{ 'remapped-blocks': 2, 'free-blocks': 0 }, { 'remapped-blocks': 2 }],
  })
  guest.close()
  await machine.quit()
})
