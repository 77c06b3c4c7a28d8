/** The jobs of the benchmark, one row for each, in the order in which they run. */
import { measureHang } from './hang.js'
import {
  CONTROL_P99_GOAL_MS,
  type BoundJob,
  type CompareJob,
  type DiskName,
  type Job,
  type Load,
  type PeerName,
} from './job.js'
import { measureMemory } from './memory.js'
import { measureOneRemap, measureOpen, measureRegion, measureSpace } from './metadata.js'
import { measureObservability } from './observability.js'
import { measureList, measureMessages } from './operator.js'
import { REMAP_JOBS } from './remap.js'

type Peers = readonly PeerName[]
const BOTH: Peers = ['nbdkit', 'qemu-nbd']
const NBDKIT: Peers = ['nbdkit']

const compare = (name: string, title: string, disk: DiskName, load: Load, peers: Peers, goal: number): CompareJob => ({
  kind: 'compare',
  name,
  title,
  disk,
  load,
  peers,
  goal,
})

const micro = (name: string, title: string, unit: string, goal: number, measure: BoundJob['measure']): BoundJob => ({
  kind: 'micro',
  name,
  title,
  unit,
  goal,
  measure,
})

// prettier-ignore
export const JOBS: readonly Job[] = [
  compare('4k-randread-qd32', '4 KiB random read, queue depth 32', 'file', { rw: 'randread', bs: '4k', iodepth: 32 }, BOTH, 1.5),
  compare('4k-randwrite-qd32', '4 KiB random write, queue depth 32', 'file', { rw: 'randwrite', bs: '4k', iodepth: 32 }, BOTH, 1.5),
  compare('4k-mixed-qd32', '4 KiB 70/30 mix, queue depth 32', 'file', { rw: 'randrw', rwmixread: 70, bs: '4k', iodepth: 32 }, BOTH, 1.4),
  compare('4k-randread-qd1', '4 KiB random read, queue depth 1', 'file', { rw: 'randread', bs: '4k', iodepth: 1 }, BOTH, 1.3),
  compare('256k-read-qd16', '256 KiB read, queue depth 16', 'file', { rw: 'read', bs: '256k', iodepth: 16 }, BOTH, 1.1),
  compare('256k-write-qd16', '256 KiB write, queue depth 16', 'file', { rw: 'write', bs: '256k', iodepth: 16 }, BOTH, 1.1),
  compare('4k-randread-4x8', '4 KiB random read, 4 connections, depth 8', 'file', { rw: 'randread', bs: '4k', iodepth: 8, numjobs: 4 }, BOTH, 1.5),
  compare('upstream-4k-randread-qd32', 'Upstream NBD, 4 KiB random read, depth 32', 'nbd', { rw: 'randread', bs: '4k', iodepth: 32 }, NBDKIT, 1),
  compare('slow-file-4k-randread-qd32', 'File with 5 ms latency, random read, depth 32', 'slow-file', { rw: 'randread', bs: '4k', iodepth: 32 }, NBDKIT, 0.9),
  {
    kind: 'memory',
    name: 'memory-64x16x256k',
    title: 'Peak memory, 64 connections x 16 x 256 KiB',
    unit: 'MiB',
    goal: 200,
    measure: measureMemory,
  },
  {
    kind: 'hang',
    name: 'control-while-main-hangs',
    title: 'Control socket while the main disk hangs, p99',
    unit: 'ms',
    goal: CONTROL_P99_GOAL_MS,
    measure: measureHang,
  },
  {
    kind: 'observed',
    name: 'observability',
    title: 'Requests lost to metrics each second and two event clients',
    unit: '%',
    goal: 2,
    measure: measureObservability,
  },
  micro('open-1m-remaps', 'Opening a pair with 1,000,000 remaps', 's', 1, measureOpen(1_000_000)),
  micro('open-10m-remaps', 'Opening a pair with 10,000,000 remaps', 's', 10, measureOpen(10_000_000)),
  micro('one-remap', 'One durable remap, flushes take no time', 'ms', 1, measureOneRemap),
  micro('dead-region', 'A durable remap while a whole region dies (5,000/s)', 'ms', 0.2, measureRegion),
  micro('metadata-space', 'Metadata beyond the first 8 MiB of the spare', '%', 2, measureSpace),
  ...REMAP_JOBS,
  micro('remap-list', 'A list of 100,000 scattered sectors, `nbd-remap add`', 's', 5, measureList),
  micro('remap-messages', '200 remaps, each by `nbd-remap dmsetup message`', 's', 30, measureMessages),
]
