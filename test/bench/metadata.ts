/**
 * What the metadata costs: opening a pair with very many remaps, making remaps durable on disks that flush in no time, and
 * space. In this process, on disks in memory of which only what was written takes memory.
 */
import { FaultyDevice } from '../support/faulty-device.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import {
  decodeHeader,
  emptyPage,
  encodeHeader,
  HEADER_AREA_SIZE,
  HEADER_OFFSETS,
  HEADER_SIZE,
  layOut,
  PAGE_SIZE,
  sealPage,
  SLOTS_PER_PAGE,
  writeSlot,
  type Header,
} from '../../src/spare/format.js'
import { silentLog } from '../../src/util/log.js'
import { GiB, KiB, mainBlock, MiB } from '../../src/util/units.js'
import { asDisk, POLICY } from '../support/rig.js'
import { SparseDevice } from '../support/sparse-device.js'
import type { Context, Measured } from './job.js'

const BLOCK_SIZE = 4 * KiB
/** Blocks of main for each remap. */
const SPREAD = 4
/** So many blocks at the end of main have no remap yet. */
const FRESH_BLOCKS = 64 * 1024

interface Disks {
  readonly main: FaultyDevice
  readonly spare: SparseDevice
}

const openPair = ({ main, spare }: Disks): Promise<Pair> =>
  Pair.open(
    { main: asDisk(main, 'main'), spares: [asDisk(spare, 'spare')] },
    { policy: POLICY, acceptMain: false, emit: () => undefined, log: silentLog },
  )

/** A pair with so many remaps, all over main. The slot table is written as such: it takes too long remap by remap. */
async function pairWith(remaps: number): Promise<Disks> {
  const main = new FaultyDevice(new SparseDevice((remaps * SPREAD + FRESH_BLOCKS) * BLOCK_SIZE, 'main'))
  const spare = new SparseDevice((remaps + FRESH_BLOCKS) * (BLOCK_SIZE + 64) + 16 * MiB, 'spare')
  const disks = { main: asDisk(main, 'main'), spares: [asDisk(spare, 'spare')] }
  await formatPair(disks, { blockSize: BLOCK_SIZE, force: true, log: silentLog })
  const copy = Buffer.alloc(HEADER_SIZE)
  await spare.read(0, copy)
  const decoded = decodeHeader(copy, 0)
  if (decoded.kind !== 'valid') throw new Error('the spare was not formatted')
  await fillSlots(spare, decoded.header, remaps)
  return { main, spare }
}

async function fillSlots(spare: SparseDevice, header: Header, remaps: number): Promise<void> {
  const { uuid, geometry } = header
  const initialisedPages = Math.max(header.initialisedPages, Math.ceil(remaps / SLOTS_PER_PAGE))
  for (let page = 0; page < initialisedPages; page++) {
    const content = emptyPage()
    for (let index = 0; index < SLOTS_PER_PAGE && page * SLOTS_PER_PAGE + index < remaps; index++) {
      const slot = page * SLOTS_PER_PAGE + index
      // A step that has no factor in common with the number of remaps visits every one of them.
      const block = mainBlock(((slot * 7919) % remaps) * SPREAD)
      writeSlot(content, index, { state: 'remapped', mainBlock: block, generation: slot + 1, lostMask: 0n })
    }
    for (const [copy, table] of geometry.slotTableOffsets.entries()) {
      await spare.write(table + page * PAGE_SIZE, [sealPage(content, { uuid, page, copy }, 1)])
    }
  }
  const next = { ...header, sequence: header.sequence + 1, initialisedPages }
  for (const [copy, offset] of HEADER_OFFSETS.entries()) await spare.write(offset, [encodeHeader(next, copy)])
}

const figure = (value: number, note: string): Measured => ({ value, controlLatenciesMs: [], note })

export const measureOpen =
  (remaps: number) =>
  async ({ step }: Context): Promise<Measured> => {
    step(`making ${remaps} remaps`)
    const disks = await pairWith(remaps)
    step('opening')
    const start = performance.now()
    const { target } = await openPair(disks)
    const seconds = (performance.now() - start) / 1000
    if (target.table.count !== remaps) throw new Error(`${target.table.count} remaps of ${remaps} were found`)
    return figure(seconds, `${Math.round(remaps / seconds)} remaps/s`)
  }

const SINGLE_REMAPS = 2000

/** The median over remaps made one after another, beside many and beside few. */
export async function measureOneRemap({ step }: Context): Promise<Measured> {
  const medians: number[] = []
  for (const remaps of [1000, 1_000_000]) {
    step(`making ${remaps} remaps`)
    const disks = await pairWith(remaps)
    const { target } = await openPair(disks)
    disks.main.add({ operations: ['write'], start: 0, end: disks.main.size, code: 'EIO' })
    const times: number[] = []
    for (let n = 0; n < SINGLE_REMAPS; n++) {
      const start = performance.now()
      await target.write((remaps * SPREAD + n) * BLOCK_SIZE, [Buffer.alloc(BLOCK_SIZE, 1)])
      times.push(performance.now() - start)
    }
    medians.push(times.sort((a, b) => a - b)[SINGLE_REMAPS / 2] ?? 0)
  }
  const [few = 0, many = 0] = medians
  return figure(Math.max(few, many), `${few.toFixed(3)} ms beside 1,000 remaps, ${many.toFixed(3)} beside 1,000,000`)
}

const REGION_BLOCKS = 32 * 1024
const REQUEST_BLOCKS = 16
const REQUESTS_IN_FLIGHT = 32

/** A region of main can no longer be written, and a client writes all of it, 64 KiB at a time. */
export async function measureRegion({ step }: Context): Promise<Measured> {
  step('writing to a dead region')
  const disks = await pairWith(1000)
  const { target } = await openPair(disks)
  disks.main.add({ operations: ['write'], start: 0, end: disks.main.size, code: 'EIO' })
  const data = [Buffer.alloc(REQUEST_BLOCKS * BLOCK_SIZE, 1)]
  let next = 1000 * SPREAD
  const end = next + REGION_BLOCKS
  const start = performance.now()
  const writer = async (): Promise<void> => {
    while (next < end) {
      const block = next
      next += REQUEST_BLOCKS
      await target.write(block * BLOCK_SIZE, data)
    }
  }
  await Promise.all(Array.from({ length: REQUESTS_IN_FLIGHT }, writer))
  const seconds = (performance.now() - start) / 1000
  return figure((seconds * 1000) / REGION_BLOCKS, `${Math.round(REGION_BLOCKS / seconds)} durable remaps/s`)
}

/** Of spares of some sizes the greatest share that is neither data nor the first 8 MiB. */
export function measureSpace(): Promise<Measured> {
  const shares = [64 * MiB, GiB, 64 * GiB, 1024 * GiB].map((size) => {
    const slots = layOut(size, size, BLOCK_SIZE)?.slots ?? 0
    return ((size - HEADER_AREA_SIZE - slots * BLOCK_SIZE) / size) * 100
  })
  return Promise.resolve(figure(Math.max(...shares), 'spares of 64 MiB to 1 TiB, blocks of 4 KiB'))
}
