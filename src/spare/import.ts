/**
 * Puts an exported file's metadata on its spare. Order, so that what is cut off is refused and never half believed:
 *
 *   1. backup: every byte that is replaced, durable
 *   2. all headers are wiped; flush
 *   3. the slot table, copy 0; flush; copy 1; flush
 *   4. the headers, one at a time, each flushed
 */
import { DeviceError, type Device } from '../device/device.js'
import { RefusedError } from '../util/errors.js'
import type { Log } from '../util/log.js'
import { backUp, type ByteRange } from './backup.js'
import { chooseHeader, geometryProblem } from './choose.js'
import {
  decodeHeader,
  FORMAT_VERSION,
  HEADER_OFFSETS,
  PAGE_SIZE,
  pageDamage,
  pageHeaderSequence,
  pageSequence,
  sealPage,
  slotsThatDiffer,
  SLOT_TABLE_COPIES,
  type Header,
} from './format.js'
import { readCopies, wipeHeaders, writeHeader } from './header.js'
import { uuidText } from './membership.js'
import { MetadataFile, type FileRange } from './metadata-file.js'
import { StaleCopies } from './stale-copies.js'

/** Pages behind the last one of the file that are looked at: they may know of newer headers. */
const PAGES_BEYOND = 64

export interface ImportPlan {
  readonly spare: string
  readonly uuid: string
  readonly file: string
  /** Of the headers in the file and on the spare; 0: there is none that can be believed. */
  readonly headerSequence: { readonly file: number; readonly spare: number }
  readonly slotPages: number
  /** Slots of the spare that are newer than those of the file, and say something else. */
  readonly newerSlots: number
  /** Why it is done only with --force; empty: it is done. */
  readonly objections: readonly string[]
}

export class SpareImport {
  readonly plan: ImportPlan
  readonly #device: Device
  readonly #file: MetadataFile
  readonly #header: Header
  /** Above all that anything on the spare knows of. */
  readonly #sequence: number

  private constructor(device: Device, file: MetadataFile, header: Header, found: Found, objections: readonly string[]) {
    this.#device = device
    this.#file = file
    this.#header = header
    this.#sequence = Math.max(header.sequence, found.headerSequence, found.sequenceSeen) + 1
    this.plan = {
      spare: device.name,
      uuid: uuidText(header.uuid),
      file: file.path,
      headerSequence: { file: header.sequence, spare: found.headerSequence },
      slotPages: header.initialisedPages,
      newerSlots: found.newerSlots,
      objections,
    }
  }

  /** Reads file and spare; writes nothing. @throws MetadataFileError; RefusedError when they do not belong together */
  static async plan(device: Device, path: string): Promise<SpareImport> {
    const file = await MetadataFile.open(path)
    try {
      const header = await headerIn(file)
      const problem = geometryProblem(header.geometry, device.size)
      if (problem) throw new RefusedError(`${path} is not of ${device.name}: ${problem}`)
      const choice = chooseHeader(await readCopies(device))
      const known = choice.kind === 'chosen' ? choice.header : undefined
      if (known && !known.uuid.equals(header.uuid))
        throw new RefusedError(
          `${path} is of spare ${uuidText(header.uuid)}, and ${device.name} is spare ${uuidText(known.uuid)}`,
        )
      const found = await look(device, file, header, known)
      return new SpareImport(device, file, header, found, objectionsTo(device, header, known, found))
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /** Everything that `apply` writes to. */
  get ranges(): readonly ByteRange[] {
    const { slotTableOffsets } = this.#header.geometry
    const length = this.#header.initialisedPages * PAGE_SIZE
    return [
      ...HEADER_OFFSETS.map((offset) => ({ offset, length: PAGE_SIZE })),
      ...slotTableOffsets.map((offset) => ({ offset, length })),
    ]
  }

  /** Keeps what `apply` replaces, in a new file. @throws MetadataFileError */
  backUp(path: string): Promise<void> {
    const head = { uuid: this.#header.uuid, headerSequence: this.#sequence }
    return backUp(path, this.#device, head, this.ranges)
  }

  /** @throws DeviceError when no copy of something can be written */
  async apply(log: Log): Promise<void> {
    await wipeHeaders(this.#device)
    const stale = new StaleCopies()
    let sequenceSum = 0
    for (let copy = 0; copy < SLOT_TABLE_COPIES; copy++) {
      sequenceSum = 0
      for await (const range of this.#file.ranges()) {
        for (const { number, page } of pagesIn(range, this.#header)) {
          sequenceSum += pageSequence(page)
          await this.#writePage(copy, number, page, stale)
        }
      }
      await this.#device.flush()
    }
    const staleCopies = stale.runs() ?? []
    await writeHeader(this.#device, this.#newHeader({ sequenceSum, staleCopies }), log)
  }

  async #writePage(copy: number, number: number, page: Buffer, stale: StaleCopies): Promise<void> {
    const { uuid, geometry } = this.#header
    sealPage(page, { uuid, page: number, copy }, pageSequence(page), pageHeaderSequence(page))
    try {
      await this.#device.write((geometry.slotTableOffsets[copy] ?? 0) + number * PAGE_SIZE, [page])
    } catch (error) {
      if (!(error instanceof DeviceError) || stale.has(0, number)) throw error
      stale.add(copy, number)
    }
  }

  /**
   * The main disk has changed since, and nothing says how: no clean stop, no fingerprint. Nor may a replica count as identical,
   * of which the epochs since know nothing.
   */
  #newHeader(slotTable: Header['notes']['slotTable']): Header {
    const { main, createdAt, pool, lifetime, errors } = this.#header.notes
    return {
      ...this.#header,
      version: FORMAT_VERSION,
      sequence: this.#sequence,
      clean: false,
      notes: {
        main: { ...main, fingerprint: [] },
        createdAt,
        pool,
        ...(slotTable && { slotTable }),
        ...(lifetime !== undefined && { lifetime }),
        ...(errors !== undefined && { errors }),
      },
    }
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

/** @throws RefusedError when the file is not a whole export */
async function headerIn(file: MetadataFile): Promise<Header> {
  const { head, path } = file
  if (head.kind !== 'export') throw new RefusedError(`${path} is a backup: use "nbd-remap repair --restore"`)
  let header: Header | undefined
  let pages = 0
  for await (const range of file.ranges()) {
    if (!header) {
      const found = range.bytes?.length === PAGE_SIZE ? decodeHeader(range.bytes, 0) : undefined
      if (found?.kind === 'unknown-version')
        throw new RefusedError(
          `${path} is of a spare of format version ${found.version}: use the nbd-remap that wrote it`,
        )
      if (found?.kind !== 'valid') throw new RefusedError(`${path} has no header`)
      ;({ header } = found)
      continue
    }
    for (const { number, page } of pagesIn(range, header)) {
      const damage = pageDamage(page, { uuid: header.uuid, page: number, copy: 0 })
      if (damage !== undefined || number !== pages++)
        throw new RefusedError(`${path}: slot page ${number} is not whole`)
    }
  }
  if (header?.initialisedPages !== pages) throw new RefusedError(`${path}: some of the slot table is missing`)
  return header
}

function* pagesIn({ offset, bytes }: FileRange, { geometry }: Header): Generator<{ number: number; page: Buffer }> {
  const first = (offset - geometry.slotTableOffsets[0]) / PAGE_SIZE
  if (!bytes || first < 0) return
  for (let n = 0; (n + 1) * PAGE_SIZE <= bytes.length; n++)
    yield { number: first + n, page: bytes.subarray(n * PAGE_SIZE, (n + 1) * PAGE_SIZE) }
}

/** What the spare holds now. */
interface Found {
  readonly headerSequence: number
  /** The newest header that any page knows of. */
  readonly sequenceSeen: number
  /** Pages that belong to this spare. */
  readonly pages: number
  readonly newerSlots: number
}

async function look(device: Device, file: MetadataFile, header: Header, known: Header | undefined): Promise<Found> {
  const found = { headerSequence: known?.sequence ?? 0, sequenceSeen: 0, pages: 0, newerSlots: 0 }
  const seen = async (number: number): Promise<Buffer | undefined> => {
    const newest = await newestPage(device, header, number)
    if (!newest) return undefined
    found.pages++
    found.sequenceSeen = Math.max(found.sequenceSeen, pageHeaderSequence(newest))
    return newest
  }
  for await (const range of file.ranges()) {
    for (const { number, page } of pagesIn(range, header)) {
      const newest = await seen(number)
      if (newest && pageSequence(newest) > pageSequence(page)) found.newerSlots += slotsThatDiffer(newest, page)
    }
  }
  const { slotPages } = header.geometry
  const initialised = known?.initialisedPages ?? Math.min(header.initialisedPages + PAGES_BEYOND, slotPages)
  const empty = Buffer.alloc(PAGE_SIZE)
  for (let number = header.initialisedPages; number < initialised; number++) {
    const newest = await seen(number)
    if (newest) found.newerSlots += slotsThatDiffer(newest, empty)
  }
  return found
}

/** Of both copies the newer intact one. */
async function newestPage(device: Device, { uuid, geometry }: Header, number: number): Promise<Buffer | undefined> {
  let newest: Buffer | undefined
  for (const [copy, table] of geometry.slotTableOffsets.entries()) {
    const page = Buffer.alloc(PAGE_SIZE)
    try {
      await device.read(table + number * PAGE_SIZE, page)
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      continue
    }
    if (pageDamage(page, { uuid, page: number, copy }) !== undefined) continue
    if (!newest || pageSequence(page) > pageSequence(newest)) newest = page
  }
  return newest
}

function objectionsTo({ name }: Device, header: Header, known: Header | undefined, found: Found): string[] {
  const objections: string[] = []
  if (!known && found.pages === 0)
    objections.push(
      `nothing on ${name} says that it is spare ${uuidText(header.uuid)}: what it holds may be overwritten`,
    )
  if (found.newerSlots > 0)
    objections.push(
      `${found.newerSlots} slots of ${name} are newer than those of the file: those remaps would be forgotten, with what was written to their blocks since`,
    )
  if (known && known.notes.pool.sequence !== header.notes.pool.sequence)
    objections.push(`other spares have joined or left the pool since: ${name} would not know of it`)
  return objections
}
