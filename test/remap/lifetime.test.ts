/** The counters of the lifetime are written down while a pair is served, so that a crash loses ten minutes of them at most. */
import { mock } from 'node:test'
import t, { type Test } from 'tap'
import { SlowReads } from '../../src/device/slow-reads.js'
import { Healing } from '../../src/remap/healing.js'
import { COUNTERS } from '../../src/remap/statistics.js'
import { silentLog } from '../../src/util/log.js'
import { until } from '../support/nbd-server.js'
import { PoolRig } from '../support/pool-rig.js'

const TEN_MINUTES_MS = 600_000

async function healed(t: Test): Promise<PoolRig> {
  const rig = await PoolRig.create([8, 8])
  const slowReads = new SlowReads(rig.main, 0)
  mock.timers.enable({ apis: ['setInterval'] })
  const healing = new Healing(rig.pair.target, {
    ...{ slowReads, slowReadMs: 0, selfCheckMs: 0 },
    ...{ emit: () => undefined, log: { ...silentLog, warn: (message) => rig.warnings.push(message) } },
  })
  healing.begin()
  t.teardown(async () => {
    await healing.close()
    mock.timers.reset()
  })
  return rig
}

const sequences = (rig: PoolRig): number[] => rig.pair.target.pool.members.map(({ spare }) => spare.header.sequence)

async function tenMinutes(rig: PoolRig): Promise<void> {
  mock.timers.tick(TEN_MINUTES_MS)
  await rig.pair.target.pool.settled()
}

void t.test('what was counted is on every spare after ten minutes, and then no more is written', async (t) => {
  const rig = await healed(t)
  await rig.remap(0)
  const before = sequences(rig)
  mock.timers.tick(TEN_MINUTES_MS - 1)
  t.same(sequences(rig), before)
  await tenMinutes(rig)
  const noted = sequences(rig)
  t.ok(
    noted.every((sequence, n) => sequence > before[n]!),
    'all headers were written',
  )
  await tenMinutes(rig)
  t.same(sequences(rig), noted, 'nothing was counted since')
  await rig.open('a', 'b')
  const { before: lifetime } = rig.pair.target.statistics
  t.equal(lifetime[1 + COUNTERS.indexOf('mainWriteErrors')], 1, 'it survived a crash')
})

void t.test('when it cannot be written down that is said, and tried again', async (t) => {
  const rig = await healed(t)
  await rig.remap(0)
  for (const name of ['a', 'b']) rig.break(name, 'EIO', 'write')
  await tenMinutes(rig)
  await until(() => rig.warnings.length > 0)
  t.match(rig.warnings, [/the counters of the lifetime cannot be written down: .*EIO/])
  for (const spare of rig.spares.values()) spare.clear()
  const before = sequences(rig)
  await tenMinutes(rig)
  t.ok(sequences(rig).every((sequence, n) => sequence > before[n]!))
})
