/** `nbd-remap health`, as people and as Nagios see it, while a disk gets worse. */
import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import { FaultInjector } from '../../qemu/faults.js'
import { StorageDaemon } from '../../qemu/storage-daemon.js'
import type { HealthReply } from '../../src/control/health-commands.js'
import { QmpClient } from '../../src/qmp/client.js'
import { sector } from '../../src/util/units.js'
import { cli, MANY_PROCESSES_TIMEOUT_MS, newPair, pattern, Serve } from '../support/cli.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

void t.test('a healthy pair, and the same when blocks fail and content is lost', async (t) => {
  const pair = newPair(t)
  await using daemon = await StorageDaemon.start({ directory: pair.folder, disks: [{ name: 'main', file: pair.main }] })
  const faults = new FaultInjector(daemon, 'main')
  const server = await Serve.start(t, { ...pair, main: daemon.uri('main') })
  const control = ['--control', server.controlPath]
  const well = await cli(t, 'health', '--check', ...control)
  t.equal(well.code, 0)
  t.equal(well.stdout, 'NBD-REMAP OK - score 100 | score=100;80:;50:;0;100\n')
  t.equal((await cli(t, 'health', ...control)).stdout, 'health:   100 of 100, ok, steady\n')

  await using watching = await QmpClient.connect(server.controlPath)
  using changes = watching.events('HEALTH_CHANGED')
  await faults.set([
    { sector: sector(64), operation: 'write' },
    { sector: sector(1027), operation: 'read' },
  ])
  const client = await server.connect()
  for (let n = 0; n < 98; n++) await client.write(2048 * 512, [pattern(512)])
  await client.write(60 * 512, [pattern(16 * 512, 9)])
  await t.rejects(client.read(1024 * 512, Buffer.alloc(4096)), /NBD_EIO/)
  let change = await changes.next({ timeoutMs: 30_000 })
  while (change.data['status'] !== 'warning') change = await changes.next({ timeoutMs: 30_000 })
  t.ok(JSON.stringify(change.data['reasons']).includes('blocks with lost content: 1'), JSON.stringify(change.data))

  const worse = await cli(t, 'health', '--check', ...control)
  t.equal(worse.code, 1, worse.stdout)
  t.match(
    worse.stdout,
    /^NBD-REMAP WARNING - score \d\d, .*failed requests: 1 of 100, .* \| score=\d\d;80:;50:;0;100\n$/,
  )
  const reply = JSON.parse((await cli(t, 'health', '--json', ...control)).stdout) as HealthReply
  const points = reply.reasons.reduce((sum, reason) => sum + reason.points, 0)
  t.equal(points, 100 - reply.score, 'the reasons add up')
  t.match(reply, { status: 'warning', trend: 'worse', 'score-before': 100, 'failed-blocks-per-day': 48 })
  const text = (await cli(t, 'health', ...control)).stdout
  t.match(
    text,
    /^health: +\d\d of 100, warning, worse than an hour ago \(100\)\n {2}-15 +blocks with lost content: 1\n {2}-10 +failed requests: 1 of 100$/m,
  )
  t.match(text, /^left: +[\d.]+ days, at 48\.0 blocks a day$/m)
  await client.disconnect()

  const socket = join(pair.folder, 'nobody')
  const unknown = await cli(t, 'health', '--check', '--control', socket)
  t.equal(unknown.code, 3)
  t.match(unknown.stdout, /^NBD-REMAP UNKNOWN - no server answers on the control socket .*: there is no such socket/)
  t.equal((await cli(t, 'health', '--control', socket)).code, 1, 'without --check it is an error as any')
  t.equal((await server.end()).code, 0)
  if (server.running) await once(server.child, 'exit')
})
