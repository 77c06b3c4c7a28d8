/** A main disk and several spares in memory, each with a fault injector, whose disks survive the pair that serves them. */
import { FaultyDevice } from './faulty-device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import type { RemapEventSink } from '../../src/remap/events.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import { SPARE_POLICY_DEFAULT, type SparePolicy } from '../../src/remap/policy.js'
import type { Member } from '../../src/spare/pool.js'
import { silentLog, type Log } from '../../src/util/log.js'
import { mainBlock, MiB } from '../../src/util/units.js'
import { asDisk, badSectors, pattern, POLICY } from './rig.js'

export const BLOCK = 4096
export const SECTORS = BLOCK / 512

/** A spare of the smallest size with so many blocks. */
export const sizeFor = (blocks: number): number => 8 * MiB + 2 * 4096 + blocks * BLOCK

export class PoolRig {
  readonly main = new FaultyDevice(new MemoryDevice(64 * BLOCK, 'main'))
  readonly memories = new Map<string, MemoryDevice>()
  readonly spares = new Map<string, FaultyDevice>()
  readonly events: [string, Record<string, unknown>][] = []
  readonly warnings: string[] = []
  readonly policy: SparePolicy
  #pair: Pair | undefined

  constructor(policy: Partial<SparePolicy> = {}) {
    this.policy = { ...SPARE_POLICY_DEFAULT, ...policy }
  }

  /** Formatted with spares of so many blocks, named `a`, `b` and so on, and open. */
  static async create(blocks: readonly number[], policy: Partial<SparePolicy> = {}): Promise<PoolRig> {
    const rig = new PoolRig(policy)
    await rig.main.write(0, [pattern(0, rig.main.size)])
    const names = blocks.map((count, n) => rig.newSpare('abcdefgh'.charAt(n), count))
    await formatPair(rig.disks(...names), { force: false, log: silentLog })
    await rig.open(...names)
    return rig
  }

  get pair(): Pair {
    return this.#pair!
  }

  newSpare(name: string, blocks: number): string {
    const memory = new MemoryDevice(sizeFor(blocks), name)
    this.memories.set(name, memory)
    this.spares.set(name, new FaultyDevice(memory))
    return name
  }

  disk(name: string) {
    return asDisk(this.spares.get(name)!, name)
  }

  disks(...names: string[]) {
    return { main: asDisk(this.main, 'main'), spares: names.map((name) => this.disk(name)) }
  }

  /** Opens it, again or for the first time, as after a SIGKILL. */
  async open(...names: string[]): Promise<Pair> {
    const emit: RemapEventSink = (name, data) => {
      this.events.push([name, { ...data }])
    }
    const warn = (message: string): void => {
      this.warnings.push(message)
    }
    const log: Log = { ...silentLog, warn }
    const options = { policy: POLICY, spares: this.policy, acceptMain: false, emit, log }
    this.#pair = await Pair.open(this.disks(...names), options)
    return this.#pair
  }

  member(name: string): Member {
    return this.pair.target.pool.find(name)!
  }

  /** Makes a block of main fail to be written, and writes `fill` to it. */
  async remap(block: number, fill = block + 1): Promise<void> {
    this.main.add(badSectors(['write'], block * SECTORS, SECTORS))
    await this.pair.target.write(block * BLOCK, [Buffer.alloc(BLOCK, fill)])
  }

  /** Name of the spare that a block lies on; `undefined`: it is on main. */
  placeOf(block: number): string | undefined {
    const slot = this.pair.target.table.lookup(mainBlock(block))
    return slot === undefined ? undefined : this.pair.target.pool.memberOf(slot).name
  }

  /** Makes every request of these kinds to a spare fail. */
  break(name: string, code: 'EIO' | 'ENODEV' | 'ENOSPC', ...operations: ('read' | 'write' | 'flush')[]): void {
    const device = this.spares.get(name)!
    device.add({ operations, start: 0, end: device.size, code })
  }

  eventsOf(name: string): Record<string, unknown>[] {
    return this.events.filter(([event]) => event === name).map(([, data]) => data)
  }
}
