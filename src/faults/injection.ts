/**
 * `FaultInjection`: the rules of a server, all its disks together, with one seed and one log. A rule about spares holds for
 * each of them on its own, and for those that come later. What a rule draws depends on the seed, its id, and the disk: so
 * the same rules, added in the same order, are the same again.
 */
import { Random } from '../util/random.js'
import { SECTOR_SIZE } from '../util/units.js'
import type { ByteRange } from './area.js'
import { FaultBook } from './fault-book.js'
import { FaultLog, type DiskRole, type FaultEntry } from './fault-log.js'
import { LiveRule } from './live-rule.js'
import { FaultRuleError, parseFaultRules } from './parse.js'
import { boundsOf, placeOf, type DiskShape } from './place.js'
import type { FaultDisk, FaultEffect, FaultRule } from './vocabulary.js'

/** A disk beneath which nothing is injected, and above which everything is. */
export interface FaultedDisk {
  readonly role: DiskRole
  readonly name: string
  /** Bytes. */
  readonly size: number
  readonly book: FaultBook
  /** Of a spare, where its metadata and its data are, in bytes; `undefined`: it has none yet. */
  readonly layout?: () => SpareLayout | undefined
  /** It has a connection to an NBD server that can be cut. */
  readonly isUpstream: boolean
  /** Rules were taken out. @throws Error */
  settle(): Promise<void>
  /** @returns how many bytes are lost */
  cutPower(): number
}

export interface SpareLayout {
  readonly data: ByteRange
}

/** A rule as it is in force on one disk. */
export interface InjectedPart {
  readonly disk: DiskRole
  readonly name: string
  /** Sectors that it is about. */
  readonly sectors: number
  /** The first of them: `2048`, `4096-4103`. */
  readonly places: readonly string[]
  /** Requests that it was for, and those that it struck. */
  readonly requests: number
  readonly struck: number
  /** Of an ageing rule. */
  readonly 'slow-sectors'?: number
  readonly 'weak-sectors'?: number
  readonly 'bad-sectors'?: number
}

export interface InjectedRule {
  readonly id: string
  readonly effect: FaultEffect
  /** As it was given. */
  readonly rule: FaultRule
  /** waiting: it is about a spare, or a part of one, that is not there yet. */
  readonly state: 'active' | 'spent' | 'waiting'
  readonly parts: readonly InjectedPart[]
}

const PLACES_SHOWN = 100

interface Attached extends FaultedDisk {
  readonly index: number
}

type NamedRule = FaultRule & { readonly id: string }

export class FaultInjection {
  readonly seed: string
  readonly log: FaultLog
  readonly #disks: Attached[] = []
  readonly #rules = new Map<string, NamedRule>()
  /** How many disks of a role there have been: a spare keeps its number. */
  readonly #counts = new Map<DiskRole, number>()
  #lastId = 0

  constructor(seed: string, onEntry: (entry: FaultEntry) => void = () => undefined) {
    this.seed = seed
    this.log = new FaultLog(onEntry)
  }

  /** The book of a disk that is to be attached. */
  newBook(role: DiskRole, name: string): FaultBook {
    return new FaultBook((note) => this.log.add({ disk: role, name, ...note }))
  }

  /** From now on the rules are in force on this disk, too. @throws FaultRuleError when one does not fit it */
  attach(disk: FaultedDisk): void {
    const index = this.#counts.get(disk.role) ?? 0
    this.#counts.set(disk.role, index + 1)
    this.#disks.push({ ...disk, index })
    try {
      this.refresh()
    } catch (error) {
      this.detach(disk.book)
      throw error
    }
  }

  detach(book: FaultBook): void {
    const n = this.#disks.findIndex((disk) => disk.book === book)
    if (n >= 0) this.#disks.splice(n, 1)
  }

  /** Rules that waited for what is known now take force. */
  refresh(): void {
    for (const rule of this.#rules.values()) {
      for (const disk of this.#disksOf(rule)) {
        if (disk.book.rules.some(({ id }) => id === rule.id)) continue
        const live = this.#live(rule, disk)
        if (live) disk.book.add(live)
      }
    }
  }

  /**
   * Adds rules, all or none. Those about disks that may still come wait for them when `mayWait` says so.
   * @throws FaultRuleError
   */
  inject(given: readonly FaultRule[], mayWait = false): InjectedRule[] {
    const checked = parseFaultRules([...given])
    const lastId = this.#lastId
    const added: NamedRule[] = []
    const living: (readonly [Attached, LiveRule])[] = []
    try {
      for (const rule of checked) {
        const named = this.#named(rule, added)
        added.push(named)
        living.push(...this.#enliven(named, mayWait))
      }
    } catch (error) {
      this.#lastId = lastId
      throw error
    }
    for (const rule of added) this.#rules.set(rule.id, rule)
    for (const [disk, live] of living) disk.book.add(live)
    return added.map((rule) => this.#describe(rule))
  }

  /**
   * Takes rules out, all if none are named; what they held up goes on.
   * @returns their ids @throws FaultRuleError when there is no such rule; then all are still there
   */
  async clear(ids: readonly string[] = [...this.#rules.keys()]): Promise<string[]> {
    const unknown = ids.find((id) => !this.#rules.has(id))
    if (unknown !== undefined) throw new FaultRuleError(unknown, `there is no rule '${unknown}'`)
    const cleared = new Set(ids)
    for (const id of cleared) this.#rules.delete(id)
    for (const { book } of this.#disks) book.remove(({ id }) => cleared.has(id))
    for (const disk of this.#disks) await disk.settle()
    return [...cleared]
  }

  get rules(): InjectedRule[] {
    return [...this.#rules.values()].map((rule) => this.#describe(rule))
  }

  /** What disks hold in memory, having acknowledged it, is lost. @returns how many bytes of each */
  cutPower(): { readonly disk: DiskRole; readonly name: string; readonly 'lost-bytes': number }[] {
    return this.#disks.map((disk) => ({ disk: disk.role, name: disk.name, 'lost-bytes': disk.cutPower() }))
  }

  #named(rule: FaultRule, others: readonly NamedRule[]): NamedRule {
    const isTaken = (id: string): boolean => this.#rules.has(id) || others.some((other) => other.id === id)
    if (rule.id !== undefined) {
      if (isTaken(rule.id)) throw new FaultRuleError(rule.id, `there is a rule '${rule.id}' already`, 'id')
      return { ...rule, id: rule.id }
    }
    let id: string
    do id = `fault-${++this.#lastId}`
    while (isTaken(id))
    return { ...rule, id }
  }

  #enliven(rule: NamedRule, mayWait: boolean): (readonly [Attached, LiveRule])[] {
    const disks = this.#disksOf(rule)
    if (disks.length === 0 && !mayWait) throw new FaultRuleError(rule.id, `${rule.id}: ${missing(rule)}`, 'disk')
    return disks.flatMap((disk) => {
      const live = this.#live(rule, disk)
      if (!live && !mayWait)
        throw new FaultRuleError(rule.id, `${rule.id}: ${titleOf(disk)} has no metadata yet`, 'disk')
      return live ? [[disk, live] as const] : []
    })
  }

  #disksOf({ disk = 'main', index }: FaultRule): Attached[] {
    const role = roleOf(disk)
    return this.#disks.filter((other) => other.role === role && (index === undefined || other.index === index))
  }

  /** @returns `undefined` as long as the part of the disk that it is about is not known */
  #live(rule: NamedRule, disk: Attached): LiveRule | undefined {
    if (rule.effect === 'drop-connection' && (rule.connection ?? 'upstream') === 'upstream' && !disk.isUpstream)
      throw new FaultRuleError(rule.id, `${rule.id}: ${titleOf(disk)} is no NBD server: it has no connection`, 'effect')
    const part = partOf(rule.disk ?? 'main', disk)
    if (!part) return undefined
    const shape: DiskShape = { title: titleOf(disk), size: disk.size, part }
    const seed = rule.seed ?? `${this.seed}/${rule.id}`
    const own = `${seed}/${disk.role}/${disk.index}`
    const area = placeOf(rule, shape, new Random(`${own}/places`))
    return new LiveRule({ rule, area, bounds: boundsOf(rule, shape), seed: own })
  }

  #describe(rule: NamedRule): InjectedRule {
    const parts = this.#disksOf(rule).flatMap((disk) => {
      const live = disk.book.rules.find(({ id }) => id === rule.id)
      return live ? [{ live, disk }] : []
    })
    const isSpent = parts.length > 0 && parts.every(({ live }) => live.isSpent)
    return {
      id: rule.id,
      effect: rule.effect ?? 'error',
      rule: shown(rule),
      state: parts.length === 0 ? 'waiting' : isSpent ? 'spent' : 'active',
      parts: parts.map(({ live, disk }) => describePart(live, disk)),
    }
  }
}

/** The text of a map may be as long as a disk is bad. */
const MAP_SHOWN = 200
const shown = (rule: NamedRule): FaultRule =>
  rule.map !== undefined && rule.map.length > MAP_SHOWN ? { ...rule, map: `${rule.map.slice(0, MAP_SHOWN)}...` } : rule

function describePart(live: LiveRule, { role, name }: Attached): InjectedPart {
  const places: string[] = []
  for (let n = 0; n < Math.min(live.area.count, PLACES_SHOWN); n++) places.push(placeText(live.area.at(n)))
  const { ages } = live
  return {
    disk: role,
    name,
    sectors: live.sectors,
    places,
    requests: live.matched,
    struck: live.struck,
    ...(ages && {
      'slow-sectors': Math.ceil(ages.slow / SECTOR_SIZE),
      'weak-sectors': Math.ceil(ages.weak / SECTOR_SIZE),
      'bad-sectors': Math.ceil(ages.bad / SECTOR_SIZE),
    }),
  }
}

function placeText({ start, end }: ByteRange): string {
  const [first, last] = [Math.floor(start / SECTOR_SIZE), Math.ceil(end / SECTOR_SIZE) - 1]
  return first === last ? String(first) : `${first}-${last}`
}

const roleOf = (disk: FaultDisk): DiskRole => (disk === 'spare-metadata' || disk === 'spare-data' ? 'spare' : disk)
const titleOf = ({ role, index, name }: Attached): string =>
  role === 'spare' ? `spare ${index} (${name})` : `${role} (${name})`

function missing({ disk = 'main', index }: FaultRule): string {
  const role = roleOf(disk)
  return index === undefined ? `there is no ${role}` : `there is no ${role} ${index}`
}

function partOf(wanted: FaultDisk, disk: Attached): readonly ByteRange[] | undefined {
  if (wanted !== 'spare-metadata' && wanted !== 'spare-data') return [{ start: 0, end: disk.size }]
  const layout = disk.layout?.()
  if (!layout) return undefined
  const { data } = layout
  if (wanted === 'spare-data') return [data]
  const around = [
    { start: 0, end: data.start },
    { start: data.end, end: disk.size },
  ]
  return around.filter(({ start, end }) => start < end)
}
