/**
 * An opened spare: headers, slot table, allocator and data blocks of one disk. Opening order, which keeps a later loss
 * of one copy from going back in time: read and choose; the caller checks that the main is the right one; `takeOver`
 * then repairs every slot page and rewrites every header copy, flushed, before anything is served.
 */
import { randomBytes } from 'node:crypto'
import type { Device } from '../device/device.js'
import { assert } from '../util/assert.js'
import { RefusedError } from '../util/errors.js'
import type { Log } from '../util/log.js'
import type { SlotNumber } from '../util/units.js'
import { Allocator } from './allocator.js'
import { findContent } from './blank.js'
import { ageProblem, geometryProblem, type BadCopy } from './choose.js'
import {
  encodeHeader,
  FORMAT_VERSION,
  layOut,
  pageOf,
  spareSizeMin,
  type Geometry,
  type Header,
  type MainIdentity,
  type SlotState,
} from './format.js'
import { hasHeader, readHeader, wipeHeaders, writeHeader } from './header.js'
import { SlotTable, type PageFinding, type SlotUpdate } from './slots.js'

/** Slot pages are initialised in strides, so that the header is rewritten once for many remaps. */
const PAGES_PER_STRIDE = 64

export interface FormatOptions {
  readonly blockSize: number
  readonly main: MainIdentity & { readonly size: number }
  /** Overwrite whatever is there. Without it a disk that is not blank is refused. */
  readonly force: boolean
}

/** What opening found to be repaired. */
export interface OpenFindings {
  readonly headerCopies: readonly BadCopy[]
  readonly pages: readonly PageFinding[]
}

export class Spare {
  readonly device: Device
  readonly findings: OpenFindings
  readonly slots: SlotTable
  readonly #log: Log
  readonly #allocator: Allocator
  #header: Header
  #initialising: Promise<void> = Promise.resolve()
  #headerUpdates: Promise<void> = Promise.resolve()

  private constructor(device: Device, header: Header, slots: SlotTable, findings: OpenFindings, log: Log) {
    this.device = device
    this.findings = findings
    this.slots = slots
    this.#header = header
    this.#log = log
    this.#allocator = new Allocator(header.geometry.slots, slots.countUsed(), (number) => slots.state(number))
    slots.header = { sequence: header.sequence, save: () => this.#updateHeader({}) }
  }

  /**
   * Writes an empty slot table and the five headers. Nothing is written before all checks have passed.
   * @throws RefusedError when the disk is too small, or not blank and `force` is not given
   */
  static async format(device: Device, options: FormatOptions, log: Log): Promise<void> {
    const { main, blockSize } = options
    const geometry = layOut(main.size, device.size, blockSize)
    if (!geometry) {
      throw new RefusedError(
        `spare ${device.name} is too small: ${device.size} bytes, and at least ${spareSizeMin(blockSize)} are needed`,
      )
    }
    if (!options.force) await refuseUnlessBlank(device)
    const uuid = randomBytes(16)
    const pages = Math.min(PAGES_PER_STRIDE, geometry.slotPages)
    const header = newHeader(uuid, geometry, pages, main)
    encodeHeader(header, 0) // throws when it does not fit, while the disk is still as it was
    await wipeHeaders(device)
    const slots = new SlotTable(device, geometry, uuid, log)
    await slots.initialise(pages)
    await writeHeader(device, { ...header, notes: { ...header.notes, slotTable: slots.record(pages) } }, log)
  }

  /**
   * Reads header and slot table; writes nothing.
   * @throws RefusedError when the disk is not a spare, or one that cannot be used
   */
  static async open(device: Device, log: Log): Promise<Spare> {
    const choice = await readHeader(device)
    if (choice.kind === 'absent') throw new RefusedError(await absentMessage(device))
    if (choice.kind === 'refused') throw new RefusedError(`spare ${device.name} is refused: ${choice.reason}`)
    const { header } = choice
    const problem = geometryProblem(header.geometry, device.size)
    if (problem) throw new RefusedError(`spare ${device.name} is refused: ${problem}`)
    const slots = new SlotTable(device, header.geometry, header.uuid, log)
    const pages = await slots.load(header.initialisedPages, header.notes.slotTable?.staleCopies)
    const tooOld = pages.some(({ lost }) => lost) ? undefined : ageProblem(header, slots.age)
    if (tooOld) throw new RefusedError(`spare ${device.name} is refused: ${tooOld}`)
    return new Spare(device, header, slots, { headerCopies: choice.bad, pages }, log)
  }

  get header(): Header {
    return this.#header
  }

  get geometry(): Geometry {
    return this.#header.geometry
  }

  get blockSize(): number {
    return this.#header.geometry.blockSize
  }

  /** Free slots that nobody has reserved. */
  get free(): number {
    return this.#allocator.free
  }

  /**
   * Repairs damaged copies and takes ownership: afterwards the headers say "in use by a new owner".
   * @throws RefusedError when a slot page has no intact copy; DeviceError when nothing can be written
   */
  async takeOver(main: MainIdentity): Promise<void> {
    this.refuseIfLost()
    await this.slots.repair(this.findings.pages)
    const notes = { ...this.#header.notes, main }
    const bad = this.findings.headerCopies.map(({ copy }) => copy)
    await this.#updateHeader({ ownerEpoch: this.#header.ownerEpoch + 1, clean: false, notes }, bad)
  }

  /** @throws RefusedError when a slot page has no intact copy: what it said is never guessed at */
  refuseIfLost(): void {
    const lost = this.findings.pages.filter((finding) => finding.lost)
    const [first] = lost
    if (!first) return
    const reasons = first.bad.map(({ copy, reason }) => `copy ${copy} ${reason}`).join(', ')
    throw new RefusedError(
      `spare ${this.device.name} is refused: ${lost.length} slot page(s) have no intact copy, so some remaps are unknown (page ${first.page}: ${reasons}); restore it from a copy`,
    )
  }

  /** Reserves a free slot and sees to it that its page is initialised; `undefined`: the spare is full. */
  async allocate(): Promise<SlotNumber | undefined> {
    const number = this.#allocator.allocate()
    if (number !== undefined) await this.#ensureInitialised(number)
    return number
  }

  /** Reserves this very slot. @returns whether it was free */
  async reserve(number: SlotNumber): Promise<boolean> {
    if (!this.#allocator.reserve(number)) return false
    await this.#ensureInitialised(number)
    return true
  }

  /** Gives reserved slots back. */
  release(numbers: readonly SlotNumber[]): void {
    for (const number of numbers) this.#allocator.release(number)
  }

  /** Durable when it resolves, together with all data written before the call. @throws DeviceError */
  async commit(updates: readonly SlotUpdate[]): Promise<void> {
    const before = new Map<SlotNumber, SlotState>()
    for (const { number } of updates) before.set(number, this.slots.state(number))
    await this.slots.commit(updates)
    for (const [number, state] of before) this.#allocator.committed(number, state)
  }

  dataOffset(number: SlotNumber): number {
    assert(number < this.geometry.slots, `slot ${number} lies outside the spare`)
    return this.geometry.dataOffset + number * this.blockSize
  }

  /** Records a clean stop, with what the main looked like. @throws DeviceError */
  async markClean(main: MainIdentity): Promise<void> {
    await this.device.flush()
    await this.#updateHeader({ clean: true, notes: { ...this.#header.notes, main } })
  }

  /** Changes the notes of scrub and replica, durably. @throws DeviceError */
  noteHealing(change: (healing: unknown) => unknown): Promise<void> {
    const update = this.#headerUpdates.then(() => {
      const { notes } = this.#header
      return this.#writeHeader({ notes: { ...notes, healing: change(notes.healing) } }, [])
    })
    this.#headerUpdates = update.catch(() => undefined)
    return update
  }

  /** Slots are initialised one stride at a time, whoever asks first. */
  #ensureInitialised(number: SlotNumber): Promise<void> {
    if (pageOf(number) < this.#header.initialisedPages) return Promise.resolve()
    const step = this.#initialising.then(async () => {
      if (pageOf(number) < this.#header.initialisedPages) return
      const pages = Math.min(pageOf(number) + PAGES_PER_STRIDE, this.geometry.slotPages)
      await this.slots.initialise(pages)
      await this.#updateHeader({ initialisedPages: pages })
    })
    this.#initialising = step.catch(() => undefined)
    return step
  }

  /** One update at a time: of two at once, two copies would be in flight. */
  #updateHeader(change: Partial<Header>, bad: readonly number[] = []): Promise<void> {
    const update = this.#headerUpdates.then(() => this.#writeHeader(change, bad))
    this.#headerUpdates = update.catch(() => undefined)
    return update
  }

  async #writeHeader(change: Partial<Header>, bad: readonly number[]): Promise<void> {
    const next = { ...this.#header, ...change, sequence: this.#header.sequence + 1 }
    const slotTable = this.slots.record(next.initialisedPages)
    const header = { ...next, notes: { ...next.notes, slotTable } }
    await writeHeader(this.device, header, this.#log, bad)
    this.#header = header
    this.slots.header = { ...this.slots.header, sequence: header.sequence }
  }
}

function newHeader(uuid: Buffer, geometry: Geometry, initialisedPages: number, main: MainIdentity): Header {
  const { id, location, fingerprint } = main
  return {
    version: FORMAT_VERSION,
    uuid,
    sequence: 1,
    ownerEpoch: 0,
    clean: true,
    geometry,
    initialisedPages,
    notes: { main: { id, location, fingerprint }, createdAt: new Date().toISOString() },
  }
}

async function refuseUnlessBlank(device: Device): Promise<void> {
  if (await hasHeader(device)) {
    throw new RefusedError(
      `spare ${device.name} is already formatted: serve it as it is, or overwrite it with "nbd-remap format --force"`,
    )
  }
  const content = await findContent(device)
  if (content === undefined) return
  throw new RefusedError(
    `spare ${device.name} is not blank (there is data near offset ${content}): if it can go, overwrite it with "nbd-remap format --force"`,
  )
}

async function absentMessage(device: Device): Promise<string> {
  if ((await findContent(device)) === undefined) {
    return `spare ${device.name} is blank: add --create to format it, or run "nbd-remap format"`
  }
  return `spare ${device.name} is not formatted and not blank: is it the right disk? If its content can go, run "nbd-remap format --force"`
}
