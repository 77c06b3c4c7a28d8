/** `nbd-remap plan`: its arithmetic against spares that are formatted, a table that is filled, and itself. */
import { truncateSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { badBlocksAfter, DAYS, daysUntil } from '../../src/cli/plan/forecast.js'
import type { Plan } from '../../src/cli/plan/capacity.js'
import { tableMemory } from '../../src/remap/table-memory.js'
import { RemapTable } from '../../src/remap/table.js'
import { SLOTS_PER_PAGE } from '../../src/spare/format.js'
import { SlotRecords } from '../../src/spare/slot-records.js'
import type { VerifyReport } from '../../src/spare/verify.js'
import { GiB, mainBlock, MiB, slotNumber } from '../../src/util/units.js'
import { cli, fails, newFolder, newSpare } from '../support/cli.js'

const plan = async (t: Test, ...args: string[]): Promise<Plan> =>
  JSON.parse((await cli(t, 'plan', ...args, '--json')).stdout) as Plan

void t.test('a spare of the recommended size has the blocks and the metadata that were promised', async (t) => {
  const folder = newFolder(t)
  const main = newSpare(folder, 'main.img', GiB)
  for (const [blockSize, blocks] of [
    ['512', '3000'],
    ['4096', '10000'],
    ['32768', '150'],
  ] as const) {
    const promised = await plan(t, '--main-size', '1G', '--expect', blocks, '--block-size', blockSize)
    t.equal(promised['needed-blocks'], Math.ceil(Number(blocks) / 0.8))
    const spare = join(folder, `${blockSize}.img`)
    newSpare(folder, `${blockSize}.img`, promised['spare-bytes'])
    const formatting = ['--main', main, '--spare', spare, '--block-size', blockSize]
    t.equal((await cli(t, 'format', ...formatting)).code, 0)
    const report = JSON.parse((await cli(t, 'verify', '--spare', spare, '--json')).stdout) as VerifyReport
    t.equal(report.slots.total, promised['spare-blocks'])
    const metadata = promised['metadata-bytes'] - 8 * MiB - 2 * 4096 * Math.ceil(report.slots.total / SLOTS_PER_PAGE)
    t.ok(metadata >= 0 && metadata < Number(blockSize), 'headers, two copies of the slot table, and no block of gap')
    t.equal(promised.sufficient, true)
    if (promised['spare-bytes'] <= 9 * MiB) continue
    truncateSync(spare, 0)
    const smaller = String(promised['spare-bytes'] - MiB)
    const judged = ['--main-size', '1G', '--expect', blocks, '--block-size', blockSize, '--spare-size', smaller]
    t.equal((await plan(t, ...judged)).sufficient, false, 'a MiB less would not do')
  }
})

void t.test('the memory is what the table takes', (t) => {
  for (const [blocks, remaps] of [
    [100_000, 1],
    [2 ** 28, 150_000],
    [2 ** 31, 70_000],
  ] as const) {
    const records = new SlotRecords()
    const table = new RemapTable(blocks, records)
    for (let n = 0; n < remaps; n++) {
      const slot = slotNumber(n)
      records.put(slot, { state: 'remapped', mainBlock: mainBlock(n), generation: 1, lostMask: 0n })
      table.set(mainBlock(n), slot)
    }
    while (table.resizeStep(1000));
    const sequences = Math.ceil(remaps / SLOTS_PER_PAGE) * 8
    t.equal(tableMemory(blocks, remaps), table.bytes + records.bytes + sequences, `${remaps} of ${blocks}`)
  }
  t.end()
})

void t.test('a forecast and the time until it comes true agree', (t) => {
  const steady = { atOnce: 100, perDay: 2, growthPerMonth: 0 }
  t.equal(badBlocksAfter(steady, 50), 200)
  t.equal(daysUntil(steady, 200), 50)
  t.equal(daysUntil(steady, 100), 0)
  t.equal(daysUntil({ ...steady, perDay: 0 }, 101), Infinity)
  for (const growthPerMonth of [0, 0.1, -0.1, 3]) {
    const it = { ...steady, growthPerMonth }
    const blocks = badBlocksAfter(it, 200)
    t.ok(Math.abs(daysUntil(it, blocks) - 200) < 1e-6, `${growthPerMonth}`)
  }
  // Day by day: a tenth more each month.
  let [sum, rate] = [100, 2]
  for (let day = 0; day < 365; day++, rate *= 1.1 ** (1 / DAYS.month)) sum += rate
  const grown = badBlocksAfter({ ...steady, growthPerMonth: 0.1 }, 365)
  t.ok(Math.abs(grown / sum - 1) < 0.005, `${grown} and ${sum}`)
  t.equal(daysUntil({ ...steady, growthPerMonth: -0.5 }, 1000), Infinity, 'a rate that falls comes to an end')
  t.end()
})

void t.test('for people; exit code 1 when the spare does not suffice', async (t) => {
  const { code, stdout } = await cli(
    t,
    'plan',
    '--main-size',
    '1T',
    '--expect',
    '500',
    '--expect',
    '20/day',
    '--for',
    '5y',
  )
  t.equal(code, 0)
  t.match(stdout, /^main: +1 TiB, 268435456 blocks of 4 KiB$/m)
  t.match(stdout, /^expected: +37025 bad blocks after 5.0 years$/m)
  t.match(stdout, /^spare: +at least \d+(\.\d)? MiB: \d+ blocks; 46282 with 20 % in reserve$/m)
  t.match(stdout, /^lasts: +\d\.\d years; SPARE_LOW is sent after \d\.\d years$/m)
  const small = await cli(t, 'plan', '--main-size', '1T', '--expect', '20/day', '--spare-size', '20M')
  t.equal(small.code, 1)
  t.match(small.stdout, /^spare: +20 MiB: \d+ blocks; 27394 with 20 % in reserve; TOO SMALL: 27394 are needed$/m)
  const whole = await cli(t, 'plan', '--main-size', '1M', '--expect', '100/hour')
  t.match(whole.stdout, /256 bad blocks after .*, which is all of the disk$/m)
  t.match(whole.stdout, /^lasts: +for ever$/m)
})

void t.test('what cannot be planned is refused', async (t) => {
  const size = ['--main-size', '1G']
  await fails(t, 2, /required option '--expect <blocks>' not specified/, ['plan', ...size])
  await fails(t, 2, /such as 2000, 20\/day or 100\/month/, ['plan', ...size, '--expect', '5/fortnight'])
  await fails(t, 2, /a spare has at least 8400896 bytes/, ['plan', ...size, '--expect', '5', '--spare-size', '8M'])
  await fails(t, 2, /no spare holds 2147483648000 blocks/, [
    ...['plan', '--main-size', '8000T', '--expect', '9000000000000', '--reserve', '0'],
  ])
})
