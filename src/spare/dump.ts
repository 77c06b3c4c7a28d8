/**
 * Everything that the metadata of a spare says, copy by copy, whether it may be believed or not; for people who look for
 * what went wrong. Works on a spare of which hardly anything is left. Changes nothing.
 */
import { DeviceError, type Device } from '../device/device.js'
import { alignDown, SECTOR_SIZE, slotNumber } from '../util/units.js'
import { chooseHeader, choosePage, geometryProblem } from './choose.js'
import {
  HEADER_OFFSETS,
  looksLikePage,
  PAGE_SIZE,
  pageDamage,
  pageHeaderSequence,
  pageSequence,
  peekHeader,
  readSlot,
  SLOTS_PER_PAGE,
  type Geometry,
  type Header,
  type PoolMember,
} from './format.js'
import { readCopies } from './header.js'
import { uuidText } from './membership.js'
import { StaleCopies } from './stale-copies.js'

export interface DumpedHeader {
  readonly copy: number
  readonly offset: number
  /** `intact`: valid, and not the newest. */
  readonly state: 'in force' | 'intact' | 'damaged' | 'absent' | 'unreadable' | 'unknown version'
  /** Why it is not in force; empty: it is. */
  readonly reason: string
  /** What it says, also where it is damaged; absent: nothing that looks like a header. */
  readonly fields?: Readonly<Record<string, unknown>>
}

export interface DumpedPageCopy {
  readonly copy: number
  readonly offset: number
  readonly state: 'in force' | 'intact' | 'damaged' | 'unreadable'
  readonly reason: string
  readonly sequence?: number
  readonly headerSequence?: number
}

export interface DumpedSlot {
  readonly slot: number
  readonly state: string
  readonly mainBlock: number
  readonly mainSector: number
  readonly spareOffset: number
  readonly generation: number
  /** Of main. */
  readonly lostSectors: readonly number[]
}

export interface DumpedPage {
  readonly page: number
  readonly copies: readonly DumpedPageCopy[]
  /** Of the copy in force; of a damaged one, when there is no other. Without those that are free. */
  readonly slots: readonly DumpedSlot[]
}

export interface DumpStart {
  readonly spare: string
  readonly size: number
  readonly headers: readonly DumpedHeader[]
  /** What is the matter with all headers together; empty: one is in force. */
  readonly problem: string
  /** Pages that follow. Where no header is in force the layout is that of any header that makes sense. */
  readonly slotPages: number
}

/** The slot pages are read as they are asked for. */
export interface Dump extends DumpStart {
  readonly pages: () => AsyncGenerator<DumpedPage>
}

export async function dumpSpare(device: Device): Promise<Dump> {
  const copies = await readCopies(device)
  const choice = chooseHeader(copies)
  const raw: (Buffer | undefined)[] = []
  for (const offset of HEADER_OFFSETS) raw.push(await readPage(device, offset))
  const chosen = choice.kind === 'chosen' ? choice.header : undefined
  const headers = copies.map((copy, n): DumpedHeader => {
    const isInForce = copy.kind === 'valid' && copy.header.sequence === chosen?.sequence
    const reason = 'reason' in copy ? copy.reason : ''
    const state = isInForce ? 'in force' : copy.kind === 'valid' ? 'intact' : stateOf(copy.kind)
    const stale = copy.kind === 'valid' && chosen && !isInForce ? `stale (the newest is ${chosen.sequence})` : reason
    const page = raw[n]
    const fields = page && copy.kind !== 'absent' && copy.kind !== 'unreadable' ? fieldsOf(page) : undefined
    return { copy: n, offset: HEADER_OFFSETS[n] ?? 0, state, reason: stale, ...(fields && { fields }) }
  })
  const layout = chosen ?? raw.map((page) => page && peekHeader(page)).find((it) => it && isPossible(it, device.size))
  const pages = layout ? Math.min(layout.initialisedPages, layout.geometry.slotPages) : 0
  const problem = choice.kind === 'chosen' ? '' : choice.kind === 'absent' ? 'there is no header' : choice.reason
  return {
    spare: device.name,
    size: device.size,
    headers,
    problem,
    slotPages: pages,
    pages: () => dumpPages(device, layout, pages),
  }
}

const stateOf = (kind: 'unknown-version' | 'damaged' | 'absent' | 'unreadable'): DumpedHeader['state'] =>
  kind === 'unknown-version' ? 'unknown version' : kind

type Layout = Pick<Header, 'uuid' | 'geometry' | 'initialisedPages'> & { readonly notes: Header['notes'] | undefined }

const isPossible = ({ geometry }: Layout, size: number): boolean => geometryProblem(geometry, size) === undefined

function fieldsOf(page: Buffer): Readonly<Record<string, unknown>> {
  const { uuid, notes, ...others } = peekHeader(page)
  return { uuid: uuidText(uuid), ...others, notes: notes && { ...notes, pool: poolOf(notes.pool) } }
}

const poolOf = ({ uuid, members, removed, ...others }: Header['notes']['pool']): Readonly<Record<string, unknown>> => ({
  uuid: uuidText(uuid),
  ...others,
  members: members.map(memberOf),
  removed: removed.map(memberOf),
})

const memberOf = ({ uuid, location }: PoolMember) => ({ uuid: uuidText(uuid), location })

async function* dumpPages(device: Device, layout: Layout | undefined, count: number): AsyncGenerator<DumpedPage> {
  if (!layout) return
  const stale = new StaleCopies(layout.notes?.slotTable?.staleCopies)
  for (let page = 0; page < count; page++) yield await dumpPage(device, layout, page, stale)
}

async function dumpPage(device: Device, layout: Layout, page: number, stale: StaleCopies): Promise<DumpedPage> {
  const { uuid, geometry } = layout
  const offsets = geometry.slotTableOffsets.map((table) => table + page * PAGE_SIZE)
  const buffers: (Buffer | undefined)[] = []
  for (const offset of offsets) buffers.push(await readPage(device, offset))
  const choice = choosePage(buffers, uuid, page, (copy) => stale.has(copy, page))
  const copies = buffers.map((buffer, copy): DumpedPageCopy => {
    const place = { copy, offset: offsets[copy] ?? 0 }
    const reason = choice.bad.find((bad) => bad.copy === copy)?.reason ?? ''
    if (!buffer) return { ...place, state: 'unreadable', reason }
    const isIntact = pageDamage(buffer, { uuid, page, copy }) === undefined
    const numbers = looksLikePage(buffer) && {
      sequence: pageSequence(buffer),
      headerSequence: pageHeaderSequence(buffer),
    }
    return { ...place, state: reason === '' ? 'in force' : isIntact ? 'intact' : 'damaged', reason, ...numbers }
  })
  const shown = choice.kind === 'chosen' ? choice.page : buffers.find((buffer) => buffer && looksLikePage(buffer))
  return { page, copies, slots: shown ? slotsOf(shown, page, geometry) : [] }
}

function slotsOf(buffer: Buffer, page: number, geometry: Geometry): DumpedSlot[] {
  const { blockSize, dataOffset, slots } = geometry
  const found: DumpedSlot[] = []
  for (let n = 0; n < SLOTS_PER_PAGE; n++) {
    const number = slotNumber(page * SLOTS_PER_PAGE + n)
    const { state, mainBlock, generation, lostMask } = readSlot(buffer, n)
    if (state === 'free' || number >= slots) continue
    const mainSector = (mainBlock * blockSize) / SECTOR_SIZE
    const lostSectors = Array.from({ length: 64 }, (_, bit) => bit)
      .filter((bit) => ((lostMask >> BigInt(bit)) & 1n) === 1n)
      .map((bit) => mainSector + bit)
    const spareOffset = dataOffset + number * blockSize
    found.push({ slot: number, state, mainBlock, mainSector, spareOffset, generation, lostSectors })
  }
  return found
}

/** What of it can be read: a sector that cannot makes the whole page unreadable. */
async function readPage(device: Device, offset: number): Promise<Buffer | undefined> {
  if (offset < 0 || offset + PAGE_SIZE > alignDown(device.size, SECTOR_SIZE)) return undefined
  const page = Buffer.alloc(PAGE_SIZE)
  try {
    await device.read(offset, page)
    return page
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error
    return undefined
  }
}
