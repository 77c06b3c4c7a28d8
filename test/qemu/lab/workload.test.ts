/** What a workload knows of its writes. */
import t from 'tap'
import { workloadScript } from '../../../qemu/lab/guest-script.js'
import { LabWorkload } from '../../../qemu/lab/workload.js'
import type { Workload } from '../../../qemu/scenario/format-steps.js'

const settings: Workload = { name: 'w', kind: 'files', target: '/mnt', keep: 3, at: 0 }

/** @param writes when each begins and ends */
function played(
  writes: readonly (readonly [beginMs: number, endMs: number, ok?: boolean])[],
  kind: Workload['kind'] = 'files',
) {
  const workload = new LabWorkload({ ...settings, kind })
  workload.begin()
  for (const [n, [beginMs, endMs, ok = true]] of writes.entries()) {
    workload.receive(['b', String(n)], beginMs)
    workload.receive(['e', String(n), ok ? '0' : '1', `sum-${n}`], endMs)
  }
  return workload
}

void t.test('the longest gap is between two writes that succeeded, at the beginning, or still open at the end', (t) => {
  t.equal(
    played([
      [0, 100],
      [100, 150],
      [150, 1000],
      [1000, 1010],
    ]).longestGap(1010),
    850,
  )
  t.equal(
    played([
      [0, 100],
      [100, 150, false],
      [150, 400],
    ]).longestGap(400),
    300,
    'one that failed does not end it',
  )
  t.equal(
    played([
      [0, 700],
      [700, 710],
    ]).longestGap(710),
    700,
  )
  t.equal(played([[0, 10]]).longestGap(5000), 4990)
  t.equal(
    played([
      [0, 1000],
      [1000, 1200],
    ]).longestGap(1200, 900),
    200,
    'only what lasts beyond the moment counts',
  )
  t.equal(new LabWorkload(settings).longestGap(5000), 0, 'nothing was begun')
  t.end()
})

void t.test('the time between two lives is no gap', (t) => {
  const workload = played([[0, 10]])
  workload.ended(20)
  workload.begin()
  workload.receive(['b', '1'], 9000)
  workload.receive(['e', '1', '0', 'sum'], 9030)
  workload.ended(9040)
  t.equal(workload.longestGap(9040), 30)
  t.equal(workload.running, false)
  t.end()
})

void t.test('files that have to be there are those that succeeded and were not deleted', (t) => {
  const workload = played([
    [0, 1],
    [1, 2],
    [2, 3, false],
    [3, 4],
  ])
  workload.receive(['d', '0'], 5)
  workload.receive(['b', '4'], 6)
  t.same(
    [...workload.files],
    [
      [1, 'sum-1'],
      [3, 'sum-3'],
    ],
  )
  t.equal(workload.failures, 1)
  t.equal(workload.writing, true)
  t.end()
})

void t.test('a block has what was written last, or what may have been', (t) => {
  const workload = played(
    [
      [0, 1],
      [1, 2],
      [2, 3],
      [3, 4],
      [4, 5, false],
    ],
    'blocks',
  )
  workload.receive(['b', '5'], 6)
  t.same(
    [...workload.blocks()],
    [
      [0, { number: 3, maybe: [] }],
      [1, { number: 1, maybe: [4] }],
      [2, { number: 2, maybe: [5] }],
    ],
  )
  t.end()
})

void t.test('series have a point for each second', (t) => {
  const [throughput, latency] = played([
    [0, 500],
    [500, 900],
    [2100, 2400],
  ]).series(2999)
  const perFile = 64 / 1024
  t.same(throughput?.points, [
    [0, 2 * perFile],
    [1000, 0],
    [2000, 0.063],
  ])
  t.same(latency?.points, [
    [0, 500],
    [1000, null],
    [2000, 300],
  ])
  t.end()
})

void t.test('names of guest files cannot end the quotes of the script', (t) => {
  t.match(workloadScript({ ...settings, target: `/mnt/it's` }, 0), `cd '/mnt/it'\\''s'`)
  t.end()
})
