/** A main disk and one or two spares, simulated, with faults, and whoever serves them. */
import { DeviceError } from '../../src/device/device.js'
import { FaultyDevice, type FaultRule } from '../support/faulty-device.js'
import type { OpenedDisk } from '../../src/device/open.js'
import type { PairDisks } from '../../src/remap/pair-disks.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import { HEADER_OFFSETS, layOut, PAGE_SIZE, spareSizeMin, type Geometry } from '../../src/spare/format.js'
import { RefusedError } from '../../src/util/errors.js'
import { silentLog } from '../../src/util/log.js'
import type { Random } from '../../src/util/random.js'
import { SECTOR_SIZE } from '../../src/util/units.js'
import { asDisk, POLICY } from '../support/rig.js'
import { contentOf } from './model.js'
import {
  forEachDisk,
  imageOf,
  Journal,
  setSector,
  SimulatedDisk,
  SPARES,
  type DiskName,
  type Images,
  type SpareName,
} from './simulated-disk.js'
import { sparesOf, type Shape } from './steps.js'

export type Rules = Readonly<Record<DiskName, readonly FaultRule[]>>

export const NO_RULES: Rules = forEachDisk(() => [])

/** Pages looked at in each slot table. */
export const PAGES_MAX = 4

export class Machine {
  readonly shape: Shape
  readonly journal = new Journal()
  readonly #geometries: Readonly<Record<SpareName, Geometry>>
  #simulated: Readonly<Record<DiskName, SimulatedDisk>>
  #disks: Readonly<Record<DiskName, FaultyDevice>>

  /** @param spareSize when it is not what it was when it was formatted */
  constructor(shape: Shape, images: Images, rules: Rules, random: Random, spareSize?: number) {
    this.shape = shape
    this.#geometries = { spare: geometryOf(shape, 'spare'), second: geometryOf(shape, 'second') }
    const { spare, second } = this.#geometries
    const sizes = { main: spare.mainSize, spare: spareSize ?? spare.spareSize, second: second.spareSize }
    this.#simulated = forEachDisk((name) => new SimulatedDisk(name, sizes[name], images[name], this.journal, random))
    this.#disks = this.#withFaults(rules)
  }

  #withFaults(rules: Rules): Readonly<Record<DiskName, FaultyDevice>> {
    return forEachDisk((name) => {
      const disk = new FaultyDevice(this.#simulated[name])
      disk.add(...rules[name])
      return disk
    })
  }

  get main(): FaultyDevice {
    return this.#disks.main
  }

  disk(name: DiskName): FaultyDevice {
    return this.#disks[name]
  }

  geometry(spare: SpareName): Geometry {
    return this.#geometries[spare]
  }

  get images(): Images {
    return forEachDisk((name) => this.#simulated[name].image)
  }

  /** The faults that stay when the server changes: a flush that is to fail is forgotten. */
  get rules(): Rules {
    return forEachDisk((name) => this.#disks[name].rules.filter(({ operations }) => !operations.includes('flush')))
  }

  /** The faults are gone. */
  heal(...disks: readonly DiskName[]): void {
    for (const name of disks) this.#disks[name].clear()
  }

  /** The disks as another server finds them: no request of the old one is answered any more. */
  changeServer(): void {
    const { rules } = this
    this.#simulated = forEachDisk((name) => this.#simulated[name].reopened())
    this.journal.resume()
    this.#disks = this.#withFaults(rules)
  }

  /** The disks as one more server finds them, of which the first one knows nothing. */
  addServer(): void {
    const { rules } = this
    this.#simulated = forEachDisk((name) => this.#simulated[name].shared())
    this.#disks = this.#withFaults(rules)
  }

  isMetadata(disk: DiskName, offset: number): boolean {
    if (disk === 'main') return false
    const { dataOffset, slots, blockSize } = this.#geometries[disk]
    return offset < dataOffset || offset >= dataOffset + slots * blockSize
  }

  /** Whether some copy of the metadata has a fault. */
  failsMetadata(rules = this.rules): boolean {
    return SPARES.some((spare) => rules[spare].some(({ start }) => this.isMetadata(spare, start)))
  }

  /**
   * One copy of every slot page decays at most, and four headers.
   * @returns which, in words
   */
  loseCopies(random: Random): string[] {
    const lost: string[] = []
    for (const spare of this.#formattedSpares) {
      for (const copy of random.sample(random.below(5), 5)) {
        this.#lose(spare, HEADER_OFFSETS[copy] ?? 0, random)
        lost.push(`then header copy ${copy} of ${spare} decayed`)
      }
      for (const [page, offsets] of this.#pagesOf(spare).entries()) {
        const copy = random.below(3)
        const offset = offsets[copy]
        if (offset === undefined) continue
        this.#lose(spare, offset, random)
        lost.push(`then copy ${copy} of slot page ${page} of ${spare} decayed`)
      }
    }
    return lost
  }

  /**
   * Of slot pages, or of the header, of a spare, when a copy of it has a fault, the others decay, and the faults are gone. Not
   * of both: then all that is left could be of one time in the past. @returns which, in words
   */
  loseSoundCopies(random: Random): string[] {
    const spare = random.pick(this.#formattedSpares)
    const lost: string[] = []
    const isHeader = random.below(3) === 0
    const structures = isHeader ? [HEADER_OFFSETS] : this.#pagesOf(spare)
    for (const [number, offsets] of structures.entries()) {
      if (!offsets.some((offset) => this.#fails(spare, offset))) continue
      for (const offset of offsets) if (!this.#fails(spare, offset)) this.#lose(spare, offset, random)
      lost.push(`then the sound copies of ${isHeader ? 'the header' : `slot page ${number}`} of ${spare} decayed`)
    }
    this.heal(...SPARES)
    return lost
  }

  #fails(spare: SpareName, offset: number): boolean {
    return ['write' as const, 'read' as const].some((operation) =>
      this.#disks[spare].fails(operation, offset, PAGE_SIZE),
    )
  }

  get #formattedSpares(): SpareName[] {
    return sparesOf(this.shape).filter((spare) => this.images[spare].size > 0)
  }

  /** Of each of the first slot pages the offsets of its copies. */
  #pagesOf(spare: SpareName): number[][] {
    const { slotTableOffsets, slotPages } = this.#geometries[spare]
    return Array.from({ length: Math.min(slotPages, PAGES_MAX) }, (_, page) =>
      slotTableOffsets.map((table) => table + page * PAGE_SIZE),
    )
  }

  /** So that crash states have it, too, it is written down as a write that is durable at once. */
  #lose(disk: SpareName, offset: number, random: Random): void {
    const from = random.below(2)
    const sectors = new Map<number, Buffer>()
    for (let n = from; n < PAGE_SIZE / SECTOR_SIZE; n++)
      sectors.set(offset / SECTOR_SIZE + n, random.bytes(SECTOR_SIZE))
    for (const [sector, content] of sectors) setSector(this.images[disk], sector, content)
    const write = { disk, offset, length: PAGE_SIZE, sectors }
    this.journal.add({ kind: 'write', write })
    this.journal.add({ kind: 'durable', writes: [write] })
  }

  opened(name: DiskName): OpenedDisk {
    return asDisk(this.#disks[name], name)
  }

  #pairDisks(spares: readonly SpareName[]): PairDisks {
    return { main: this.opened('main'), spares: spares.map((name) => this.opened(name)) }
  }

  format(): Promise<void> {
    const { shape } = this
    const disks = this.#pairDisks(sparesOf(shape).filter((name) => name === 'spare' || shape.second?.isMember))
    return formatPair(disks, { blockSize: shape.blockSize, force: false, log: silentLog })
  }

  /**
   * With all spares that there are. One that is none, or not yet, or not any more, is left out, as an operator would: that is
   * refused if it is needed.
   */
  async open(): Promise<Pair> {
    const spares = sparesOf(this.shape)
    try {
      return await this.#openWith(spares)
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error
      const others = spares.filter((name) => !error.message.startsWith(`spare ${name} is `))
      if (others.length === 0 || others.length === spares.length) throw error
      return await this.#openWith(others).catch((second: unknown) => {
        throw second instanceof RefusedError ? error : second
      })
    }
  }

  #openWith(spares: readonly SpareName[]): Promise<Pair> {
    const options = { policy: POLICY, acceptMain: false, emit: () => undefined, log: silentLog }
    return Pair.open(this.#pairDisks(spares), options)
  }
}

/** The smallest spare with so many slots. */
export function geometryOf({ blockSize, sectors, slots, second }: Shape, spare: SpareName = 'spare'): Geometry {
  const wanted = spare === 'spare' ? slots : (second?.slots ?? 1)
  let size = spareSizeMin(blockSize) + (wanted - 1) * blockSize
  for (;;) {
    const geometry = layOut(sectors * SECTOR_SIZE, size, blockSize)
    if (geometry && geometry.slots >= wanted) return geometry
    size += PAGE_SIZE
  }
}

export const INITIAL = 1

/** A formatted pair as it lies on the shelf. */
export async function formatted(shape: Shape, random: Random): Promise<Images> {
  const content = Array.from({ length: shape.sectors }, (_, sector) => contentOf(INITIAL, sector))
  const blank = { main: imageOf(Buffer.concat(content)), spare: new Map(), second: new Map() }
  const machine = new Machine(shape, blank, NO_RULES, random)
  await machine.format()
  return machine.images
}

/** Reads every sector; `undefined` where the answer is EIO. */
export async function readSectors(pair: Pair, { sectors, blockSize }: Shape): Promise<(Buffer | undefined)[]> {
  const perBlock = blockSize / SECTOR_SIZE
  const seen: (Buffer | undefined)[] = []
  for (let sector = 0; sector < sectors; sector += perBlock) {
    const block = Buffer.alloc(Math.min(perBlock, sectors - sector) * SECTOR_SIZE)
    const isWhole = await tryRead(pair, sector, block)
    for (let n = 0; n < block.length / SECTOR_SIZE; n++) {
      const part = block.subarray(n * SECTOR_SIZE, (n + 1) * SECTOR_SIZE)
      seen.push(isWhole || (await tryRead(pair, sector + n, part)) ? part : undefined)
    }
  }
  return seen
}

async function tryRead({ target }: Pair, sector: number, into: Buffer): Promise<boolean> {
  try {
    await target.read(sector * SECTOR_SIZE, into)
    return true
  } catch (error) {
    if (error instanceof DeviceError && error.code === 'EIO') return false
    throw error
  }
}
