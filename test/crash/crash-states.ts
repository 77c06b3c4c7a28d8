/**
 * What the disks may hold after a power cut: for every moment of a journal the durable content, and for every sector with
 * writes that were not durable any one of its contents since, whatever the others are. So writes are lost or kept in any
 * subset, applied in any order, and torn between any two sectors.
 */
import type { Random } from '../../src/util/random.js'
import {
  copyImages,
  forEachDisk,
  setSector,
  ZERO_SECTOR,
  type DiskName,
  type Images,
  type Journal,
  type SimulatedWrite,
} from './simulated-disk.js'

/** A sector whose content is open: version 0 is the durable one. */
interface OpenSector {
  readonly disk: DiskName
  readonly sector: number
  /** Each with the number of its write among `CrashPoint.volatile`, -1 for the durable one. */
  readonly versions: readonly { readonly content: Buffer; readonly write: number }[]
}

/** For every open sector the number of the version that survived. */
export type Choice = readonly number[]

/** A moment of the journal, and what was durable and what was not. */
export class CrashPoint {
  /** Events before it. */
  readonly time: number
  readonly durable: Images
  readonly volatile: readonly SimulatedWrite[]
  readonly #open: readonly OpenSector[]

  constructor(time: number, durable: Images, volatile: readonly SimulatedWrite[]) {
    this.time = time
    this.durable = durable
    this.volatile = volatile
    this.#open = openSectors(durable, volatile)
  }

  /** Number of states that differ; Infinity when there are very many. */
  get states(): number {
    return this.#open.reduce((product, { versions }) => product * versions.length, 1)
  }

  /** All of them if there are at most `count`, else `count` of them, the most telling ones first. */
  *choices(count: number, random: Random): Generator<Choice> {
    if (this.states <= count) {
      yield* this.#all()
      return
    }
    const kept = this.#open.map(({ versions }) => versions.length - 1)
    yield kept
    if (count > 1) yield kept.map(() => 0)
    for (let n = 2; n < count; n++) yield this.#draw(random)
  }

  /** Everything that was written is there: what a killed server leaves behind. */
  isAllKept(choice: Choice): boolean {
    return choice.every((version, n) => version === (this.#open[n]?.versions.length ?? 0) - 1)
  }

  images(choice: Choice): Images {
    const images = copyImages(this.durable)
    for (const [n, { disk, sector, versions }] of this.#open.entries()) {
      const version = versions[choice[n] ?? 0]
      if (version) setSector(images[disk], sector, version.content)
    }
    return images
  }

  /** In words, a line for each write that was not durable. */
  describe(choice: Choice): string[] {
    return this.volatile.map((write, number) => {
      const open = this.#open.map((sector, n) => ({ ...sector, survived: sector.versions[choice[n] ?? 0]?.write }))
      const touched = open.filter(({ versions }) => versions.some((version) => version.write === number))
      const kept = touched.filter(({ survived }) => survived === number)
      const how = kept.length === touched.length ? 'kept' : kept.length === 0 ? 'lost' : 'torn'
      const sectors = how === 'torn' ? ` (kept: sectors ${kept.map(({ sector }) => sector).join(', ')})` : ''
      return `${write.disk} ${write.length} bytes at ${write.offset}: ${touched.length === 0 ? 'no change' : how}${sectors}`
    })
  }

  *#all(): Generator<Choice> {
    const choice = this.#open.map(() => 0)
    for (;;) {
      yield [...choice]
      let n = 0
      for (; n < choice.length; n++) {
        choice[n] = (choice[n] ?? 0) + 1
        if (choice[n] !== this.#open[n]?.versions.length) break
        choice[n] = 0
      }
      if (n === choice.length) return
    }
  }

  #draw(random: Random): Choice {
    const way = random.below(4)
    if (way === 0) return this.#open.map(({ versions }) => random.below(versions.length))
    const writes = this.volatile.map(() => random.below(2) === 0)
    // One write torn; all before it kept and all after it lost, or the rest whole or gone at random.
    const torn = way === 1 ? -1 : random.below(this.volatile.length)
    const isKept = (write: number): boolean => {
      if (write === torn) return random.below(2) === 0
      return way === 3 ? write < torn : (writes[write] ?? false)
    }
    return this.#open.map(({ versions }) => {
      for (let n = versions.length - 1; n > 0; n--) if (isKept(versions[n]?.write ?? -1)) return n
      return 0
    })
  }
}

function openSectors(durable: Images, volatile: readonly SimulatedWrite[]): OpenSector[] {
  const open = new Map<string, { disk: DiskName; sector: number; versions: { content: Buffer; write: number }[] }>()
  for (const [write, { disk, sectors }] of volatile.entries()) {
    for (const [sector, content] of sectors) {
      const key = `${disk}${sector}`
      const before = open.get(key)
      const last = before?.versions.at(-1)?.content ?? durable[disk].get(sector) ?? ZERO_SECTOR
      if (last.equals(content)) continue
      if (before) before.versions.push({ content, write })
      else
        open.set(key, {
          disk,
          sector,
          versions: [
            { content: last, write: -1 },
            { content, write },
          ],
        })
    }
  }
  return [...open.values()]
}

/** Every moment of the journal, from the `start` images on. */
export function* crashPoints(start: Images, journal: Journal): Generator<CrashPoint> {
  const durable = copyImages(start)
  let pending: Pending[] = []
  yield new CrashPoint(0, durable, [])
  for (const [n, event] of journal.events.entries()) {
    if (event.kind === 'write') pending = [...pending, { write: event.write, sectors: event.write.sectors }]
    else pending = settle(durable, pending, new Set(event.writes))
    const volatile = pending.map(({ write, sectors }) => ({ ...write, sectors }))
    yield new CrashPoint(n + 1, durable, volatile)
  }
}

/** A write that is not durable, and those of its sectors that no later write has made past. */
interface Pending {
  readonly write: SimulatedWrite
  readonly sectors: ReadonlyMap<number, Buffer>
}

/** @returns what is still pending */
function settle(durable: Images, pending: readonly Pending[], writes: ReadonlySet<SimulatedWrite>): Pending[] {
  const left: Pending[] = []
  const past = forEachDisk(() => new Set<number>())
  for (const { write, sectors } of [...pending].reverse()) {
    const current = new Map([...sectors].filter(([sector]) => !past[write.disk].has(sector)))
    if (!writes.has(write)) {
      left.unshift({ write, sectors: current.size === sectors.size ? sectors : current })
      continue
    }
    for (const [sector, content] of current) {
      setSector(durable[write.disk], sector, content)
      past[write.disk].add(sector)
    }
  }
  return left
}
