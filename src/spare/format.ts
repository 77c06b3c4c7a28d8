/**
 * The on-disk format of a spare, the one place that knows byte offsets. `docs/ON-DISK-FORMAT.md` says the same in prose.
 *
 *   0        headers: five 4 KiB copies at sectors 0, 1024, 2048, 4096, 8192
 *   8 MiB    slot table, copy 0: one 4 KiB page for every 169 slots
 *   ...      data blocks, one for each slot
 *   end      slot table, copy 1
 *
 * All integers are little-endian. Every structure carries a CRC-32C over itself (with the CRC field zero), the place it
 * belongs to (so that a misdirected or swapped copy is not taken for a good one), and a sequence number (so that a stale
 * copy is not taken for the newest).
 */
import { crc32c } from '../util/crc32c.js'
import {
  alignDown,
  alignUp,
  isPowerOfTwo,
  KiB,
  MiB,
  SECTOR_SIZE,
  type MainBlock,
  type SlotNumber,
} from '../util/units.js'
import { packNotes, unpackNotes } from './notes.js'

export const FORMAT_VERSION = 2
/** Version 1 knows no pools: its spare is the only one of its main disk. */
export const FORMAT_VERSION_OLDEST = 1
export const PAGE_SIZE = 4 * KiB
export const HEADER_SIZE = PAGE_SIZE
export const HEADER_OFFSETS: readonly number[] = [0, 1024, 2048, 4096, 8192].map((sector) => sector * SECTOR_SIZE)
export const HEADER_AREA_SIZE = 8 * MiB
export const SLOT_TABLE_COPIES = 2
export const BLOCK_SIZE_DEFAULT = 4096
export const BLOCK_SIZE_MIN = SECTOR_SIZE
/** 64 sectors: the lost mask of a slot has one bit for each. */
export const BLOCK_SIZE_MAX = 64 * SECTOR_SIZE
export const SLOTS_MAX = 0xffffffff

export const isBlockSize = (size: number): boolean =>
  isPowerOfTwo(size) && size >= BLOCK_SIZE_MIN && size <= BLOCK_SIZE_MAX

// --- Geometry -----------------------------------------------------------------------------------------------------

export interface Geometry {
  readonly blockSize: number
  readonly mainSize: number
  readonly spareSize: number
  /** Number of data blocks, and of slots. */
  readonly slots: number
  /** Pages in each copy of the slot table. */
  readonly slotPages: number
  readonly slotTableOffsets: readonly [number, number]
  readonly dataOffset: number
}

const pagesFor = (slots: number): number => Math.ceil(slots / SLOTS_PER_PAGE)

/** Lays out a spare of `spareSize` bytes with as many data blocks as fit; none fit: `undefined`. */
export function layOut(mainSize: number, spareSize: number, blockSize: number): Geometry | undefined {
  const end = alignDown(spareSize, PAGE_SIZE)
  const dataOffsetFor = (slots: number): number => alignUp(HEADER_AREA_SIZE + pagesFor(slots) * PAGE_SIZE, blockSize)
  const fits = (slots: number): boolean => dataOffsetFor(slots) + slots * blockSize + pagesFor(slots) * PAGE_SIZE <= end
  const bytesPerSlot = blockSize + (SLOT_TABLE_COPIES * PAGE_SIZE) / SLOTS_PER_PAGE
  let slots = Math.min(Math.floor((end - HEADER_AREA_SIZE) / bytesPerSlot), SLOTS_MAX)
  // The estimate ignores that pages are whole: a few steps down at most.
  while (slots > 0 && !fits(slots)) slots--
  if (slots <= 0) return undefined
  const slotPages = pagesFor(slots)
  return {
    blockSize,
    mainSize,
    spareSize,
    slots,
    slotPages,
    slotTableOffsets: [HEADER_AREA_SIZE, end - slotPages * PAGE_SIZE],
    dataOffset: dataOffsetFor(slots),
  }
}

/** The smallest spare that can be formatted: one slot page in each table copy and one data block. */
export const spareSizeMin = (blockSize: number): number =>
  alignUp(alignUp(HEADER_AREA_SIZE + PAGE_SIZE, blockSize) + blockSize, PAGE_SIZE) + PAGE_SIZE

// --- Header -------------------------------------------------------------------------------------------------------

/** How the main disk was recognised when the spare was last in use. */
export interface MainIdentity {
  /** What the disk says of itself: `file:INODE`, `block:SERIAL`, `nbd:URI`. */
  readonly id: string
  /** Where it was: path or URI, for messages. */
  readonly location: string
  /** CRC-32C of sampled blocks at the last clean stop, `-1` where a sample was unreadable; empty: never taken. */
  readonly fingerprint: readonly number[]
}

/** A spare as the others of its pool know it. */
export interface PoolMember {
  readonly uuid: Buffer
  /** Where it was when it was last in use: path or URI. */
  readonly location: string
}

/** `joining`: it was formatted for the pool, and the others may not know it yet. `removed`: it holds nothing any more. */
export type PoolStanding = 'member' | 'joining' | 'removed'
const POOL_STANDINGS: readonly string[] = ['member', 'joining', 'removed'] satisfies PoolStanding[]

/** The spares of one main disk, as each of them knows it. */
export interface PoolRecord {
  /** That of the first spare. */
  readonly uuid: Buffer
  /** Counts the changes of `members`: of two records the higher one is in force. */
  readonly sequence: number
  readonly standing: PoolStanding
  /** A start is under way, and not every member may know its `ownerEpoch` yet. */
  readonly opening: boolean
  readonly members: readonly PoolMember[]
  /** The last ones that were removed, so that they are told from foreign ones. */
  readonly removed: readonly PoolMember[]
}

export const POOL_MEMBERS_MAX = 16

/** Pages [page, page + count) of this copy of the slot table. */
export type StaleRun = readonly [copy: number, page: number, count: number]
/** What a header has room for. */
export const STALE_RUNS_MAX = 64

/** What the header knows of the slot table, so that the table cannot go back in time unnoticed. */
export interface SlotTableRecord {
  /** The sequence numbers of all initialised pages together are at least this. */
  readonly sequenceSum: number
  /** Copies that missed an update of their page: they are not believed, intact or not. */
  readonly staleCopies: readonly StaleRun[]
}

export interface MainMoves {
  /** Of two members of a pool the one with the higher number knows which main disk is in force, and its size. */
  readonly count: number
  /** `formerName` of the main disks before, the last ones. */
  readonly former: readonly string[]
}

/** The msgpack section of the header: everything that is not needed to find the slots. */
export interface HeaderNotes {
  readonly main: MainIdentity
  readonly createdAt: string
  readonly pool: PoolRecord
  readonly slotTable?: SlotTableRecord
  /** Drawn by the server that took the spare over last: see `ownership.ts`. */
  readonly owner?: Buffer
  /** How the spares came to their main disk, if they had another one before. */
  readonly moves?: MainMoves
  /** What `move-main` remembers when it is cut off: see `remap/move-main.ts`. */
  readonly moving?: unknown
  /** What scrub and replica remember from one start to the next: see `remap/healing-notes.ts`. */
  readonly healing?: unknown
  /** What was counted since the pair was formatted: see `remap/lifetime.ts`. */
  readonly lifetime?: unknown
  /** What each block of the main disk has done wrong: see `remap/error-notes.ts`. */
  readonly errors?: unknown
}

export type CountedNotes = Pick<HeaderNotes, 'lifetime' | 'errors'>

export interface Header {
  readonly version: number
  readonly uuid: Buffer
  readonly sequence: number
  /** Counts the servers that opened the pair for writing. */
  readonly ownerEpoch: number
  /** Set by a clean stop, cleared before anything is served. */
  readonly clean: boolean
  readonly geometry: Geometry
  /** Slot pages that were ever written; those beyond hold whatever the disk held before. */
  readonly initialisedPages: number
  readonly notes: HeaderNotes
}

const HEADER_MAGIC = Buffer.from('NBDREMAP', 'latin1')
const H = {
  magic: 0, // 8 bytes: tells a spare from anything else
  crc: 8, // u32: torn or decayed copies
  version: 12, // u16: a format that this program does not know
  copy: 14, // u8: misdirected or swapped copies
  flags: 15, // u8, bit 0: stopped cleanly
  uuid: 16, // 16 bytes: ties slot pages to this formatting of the spare
  sequence: 32, // u64: stale copies
  ownerEpoch: 40, // u64: a server that lost its pair to another
  blockSize: 48, // u32
  slotPages: 52, // u32
  mainSize: 56, // u64: another or resized main
  spareSize: 64, // u64: a truncated spare
  slots: 72, // u64
  slotTable0: 80, // u64
  slotTable1: 88, // u64
  dataOffset: 96, // u64
  initialisedPages: 104, // u32
  notesLength: 108, // u32
  notes: 112,
}
const FLAG_CLEAN = 1

export function encodeHeader(header: Header, copy: number): Buffer {
  const { geometry } = header
  const page = Buffer.alloc(HEADER_SIZE)
  HEADER_MAGIC.copy(page, H.magic)
  page.writeUInt16LE(header.version, H.version)
  page.writeUInt8(copy, H.copy)
  page.writeUInt8(header.clean ? FLAG_CLEAN : 0, H.flags)
  header.uuid.copy(page, H.uuid)
  writeU64(page, header.sequence, H.sequence)
  writeU64(page, header.ownerEpoch, H.ownerEpoch)
  page.writeUInt32LE(geometry.blockSize, H.blockSize)
  page.writeUInt32LE(geometry.slotPages, H.slotPages)
  writeU64(page, geometry.mainSize, H.mainSize)
  writeU64(page, geometry.spareSize, H.spareSize)
  writeU64(page, geometry.slots, H.slots)
  writeU64(page, geometry.slotTableOffsets[0], H.slotTable0)
  writeU64(page, geometry.slotTableOffsets[1], H.slotTable1)
  writeU64(page, geometry.dataOffset, H.dataOffset)
  page.writeUInt32LE(header.initialisedPages, H.initialisedPages)
  const notes = packNotes(header.notes, HEADER_SIZE - H.notes)
  page.writeUInt32LE(notes.length, H.notesLength)
  notes.copy(page, H.notes)
  return seal(page, H.crc)
}

/** What a header copy turned out to be. A newer version is told from damage, because its answer differs. */
export type DecodedHeader =
  | { readonly kind: 'valid'; readonly header: Header }
  | { readonly kind: 'unknown-version'; readonly version: number }
  | { readonly kind: 'damaged'; readonly reason: string }
  | { readonly kind: 'absent' }

export function decodeHeader(page: Buffer, copy: number): DecodedHeader {
  if (!page.subarray(0, HEADER_MAGIC.length).equals(HEADER_MAGIC)) return { kind: 'absent' }
  if (!isSealed(page, H.crc)) return { kind: 'damaged', reason: 'checksum does not match' }
  const peeked = peekHeader(page)
  const { version, notes } = peeked
  if (version < FORMAT_VERSION_OLDEST || version > FORMAT_VERSION) return { kind: 'unknown-version', version }
  const foundCopy = page.readUInt8(H.copy)
  if (foundCopy !== copy) return { kind: 'damaged', reason: `holds copy ${foundCopy} (misdirected write)` }
  if (!notes) return { kind: 'damaged', reason: 'notes section cannot be read' }
  if (peeked.initialisedPages > peeked.geometry.slotPages) {
    return { kind: 'damaged', reason: 'more slot pages are initialised than there are' }
  }
  return { kind: 'valid', header: { ...peeked, notes } }
}

/** What a copy says, whether it may be believed or not: for people to look at. */
export function peekHeader(page: Buffer): Omit<Header, 'notes'> & { readonly notes: HeaderNotes | undefined } {
  const version = page.readUInt16LE(H.version)
  const uuid = Buffer.from(page.subarray(H.uuid, H.uuid + 16))
  return {
    version,
    uuid,
    sequence: readU64(page, H.sequence),
    ownerEpoch: readU64(page, H.ownerEpoch),
    clean: (page.readUInt8(H.flags) & FLAG_CLEAN) !== 0,
    geometry: decodeGeometry(page),
    initialisedPages: page.readUInt32LE(H.initialisedPages),
    notes: decodeNotes(page, version, uuid),
  }
}

function decodeGeometry(page: Buffer): Geometry {
  return {
    blockSize: page.readUInt32LE(H.blockSize),
    slotPages: page.readUInt32LE(H.slotPages),
    mainSize: readU64(page, H.mainSize),
    spareSize: readU64(page, H.spareSize),
    slots: readU64(page, H.slots),
    slotTableOffsets: [readU64(page, H.slotTable0), readU64(page, H.slotTable1)],
    dataOffset: readU64(page, H.dataOffset),
  }
}

function decodeNotes(page: Buffer, version: number, uuid: Buffer): HeaderNotes | undefined {
  const length = page.readUInt32LE(H.notesLength)
  if (length > HEADER_SIZE - H.notes) return undefined
  try {
    const notes: unknown = unpackNotes(page.subarray(H.notes, H.notes + length))
    if (!isNotes(notes)) return undefined
    if (version === 1) return { ...notes, pool: poolOfOne({ uuid, location: '' }) }
    if (!isPoolRecord(notes.pool)) return undefined
    return { ...notes, pool: copyOf(notes.pool), ...(notes.owner && { owner: Buffer.from(notes.owner) }) }
  } catch {
    return undefined
  }
}

/** The pool that a spare makes by itself. */
export const poolOfOne = (member: PoolMember): PoolRecord => ({
  uuid: member.uuid,
  sequence: 0,
  standing: 'member',
  opening: false,
  members: [member],
  removed: [],
})

/** A checksum does not say who wrote it: what is used later is looked at now. */
function isNotes(value: unknown): value is HeaderNotes {
  const { main } = (value ?? {}) as { readonly main?: Readonly<Record<string, unknown>> | null }
  if (typeof main?.['id'] !== 'string' || typeof main['location'] !== 'string') return false
  const fingerprint = main['fingerprint']
  if (!Array.isArray(fingerprint) || !fingerprint.every((crc) => typeof crc === 'number')) return false
  const { owner, moves } = value as Readonly<Record<string, unknown>>
  if (owner !== undefined && !(owner instanceof Uint8Array)) return false
  if (moves !== undefined && !isMoves(moves)) return false
  return !('slotTable' in (value as object)) || isSlotTableRecord((value as Record<string, unknown>)['slotTable'])
}

function isMoves(value: unknown): value is MainMoves {
  const { count, former } = (value ?? {}) as Readonly<Record<string, unknown>>
  return isCount(count) && Array.isArray(former) && former.every((name) => typeof name === 'string')
}

function isSlotTableRecord(value: unknown): value is SlotTableRecord {
  const { sequenceSum, staleCopies } = (value ?? {}) as Readonly<Record<string, unknown>>
  return isCount(sequenceSum) && Array.isArray(staleCopies) && staleCopies.every(isStaleRun)
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0

function isStaleRun(value: unknown): value is StaleRun {
  if (!Array.isArray(value) || value.length !== 3 || !value.every(isCount)) return false
  const [copy = 0, page = 0, count = 0] = value
  return copy < SLOT_TABLE_COPIES && page + count <= SLOTS_MAX
}

function isPoolRecord(value: unknown): value is PoolRecord {
  const { uuid, sequence, standing, opening, members, removed } = (value ?? {}) as Readonly<Record<string, unknown>>
  return (
    isUuid(uuid) &&
    Number.isSafeInteger(sequence) &&
    typeof standing === 'string' &&
    POOL_STANDINGS.includes(standing) &&
    typeof opening === 'boolean' &&
    areMembers(members) &&
    areMembers(removed)
  )
}

const isUuid = (value: unknown): value is Buffer => value instanceof Uint8Array && value.length === 16

const areMembers = (value: unknown): value is readonly PoolMember[] =>
  Array.isArray(value) &&
  value.length <= POOL_MEMBERS_MAX &&
  value.every((member: unknown) => {
    const { uuid, location } = (member ?? {}) as Readonly<Record<string, unknown>>
    return isUuid(uuid) && typeof location === 'string'
  })

/** What msgpack unpacks points into the page that it was read from. */
const copyOf = (record: PoolRecord): PoolRecord => ({
  ...record,
  uuid: Buffer.from(record.uuid),
  members: record.members.map(({ uuid, location }) => ({ uuid: Buffer.from(uuid), location })),
  removed: record.removed.map(({ uuid, location }) => ({ uuid: Buffer.from(uuid), location })),
})

// --- Slots --------------------------------------------------------------------------------------------------------

/** `free`: nothing. `remapped`: the data block stands for `mainBlock`. `retired`: the data block itself is bad. */
export type SlotState = 'free' | 'remapped' | 'retired'
const SLOT_STATES: readonly SlotState[] = ['free', 'remapped', 'retired']

export interface Slot {
  readonly state: SlotState
  readonly mainBlock: MainBlock
  /** Settles which slot wins when two stand for one main block: the higher one. */
  readonly generation: number
  /** Bit i: sector i of the block holds no content, its data was lost with the main disk. */
  readonly lostMask: bigint
}

const PAGE_MAGIC = 0x544f4c53 // "SLOT"
const P = {
  magic: 0, // u32
  crc: 4, // u32: torn or decayed pages
  uuid: 8, // 8 bytes: pages of an earlier formatting
  sequence: 16, // u64: stale pages
  page: 24, // u32: misdirected pages
  copy: 28, // u8: swapped table copies
  headerSequence: 32, // u64: stale headers
  slots: 40,
}
const SLOT_SIZE = 24
const S = { mainBlock: 0, state: 6, generation: 8, lostMask: 16 } // u48, u8, u48, u64
export const SLOTS_PER_PAGE = (PAGE_SIZE - P.slots) / SLOT_SIZE
const UUID_PREFIX = 8

/** An empty page in memory: all slots free. It goes to disk through `sealPage`. */
export const emptyPage = (): Buffer => Buffer.alloc(PAGE_SIZE)

export function readSlot(page: Buffer, index: number): Slot {
  const at = P.slots + index * SLOT_SIZE
  return {
    state: SLOT_STATES[page.readUInt8(at + S.state)] ?? 'retired',
    mainBlock: page.readUIntLE(at + S.mainBlock, 6) as MainBlock,
    generation: page.readUIntLE(at + S.generation, 6),
    // Hardly any slot has lost sectors, and making a bigint takes longer than all the rest.
    lostMask: hasLost(page, at) ? page.readBigUInt64LE(at + S.lostMask) : 0n,
  }
}

const hasLost = (page: Buffer, at: number): boolean =>
  page.readUInt32LE(at + S.lostMask) !== 0 || page.readUInt32LE(at + S.lostMask + 4) !== 0

export function writeSlot(page: Buffer, index: number, slot: Slot): void {
  const at = P.slots + index * SLOT_SIZE
  page.writeUIntLE(slot.mainBlock, at + S.mainBlock, 6)
  page.writeUInt8(SLOT_STATES.indexOf(slot.state), at + S.state)
  page.writeUIntLE(slot.generation, at + S.generation, 6)
  page.writeBigUInt64LE(slot.lostMask, at + S.lostMask)
}

export const slotState = (page: Buffer, index: number): SlotState =>
  SLOT_STATES[page.readUInt8(P.slots + index * SLOT_SIZE + S.state)] ?? 'retired'

export interface PagePlace {
  readonly uuid: Buffer
  readonly page: number
  readonly copy: number
}

/**
 * Stamps `page` (in place) with its place and sequence number, and checksums it.
 * @param headerSequence of the newest header that is durable
 */
export function sealPage(page: Buffer, place: PagePlace, sequence: number, headerSequence = 0): Buffer {
  page.writeUInt32LE(PAGE_MAGIC, P.magic)
  place.uuid.copy(page, P.uuid, 0, UUID_PREFIX)
  writeU64(page, sequence, P.sequence)
  page.writeUInt32LE(place.page, P.page)
  page.writeUInt8(place.copy, P.copy)
  writeU64(page, headerSequence, P.headerSequence)
  return seal(page, P.crc)
}

export const pageSequence = (page: Buffer): number => readU64(page, P.sequence)

/** The header that was the newest when the page was written. */
export const pageHeaderSequence = (page: Buffer): number => readU64(page, P.headerSequence)

/** Whether two pages say the same about their slots, whatever their place and sequence number. */
export const haveEqualSlots = (a: Buffer, b: Buffer): boolean => a.subarray(P.slots).equals(b.subarray(P.slots))

/** Of how many slots two pages say different things. */
export function slotsThatDiffer(a: Buffer, b: Buffer): number {
  let count = 0
  for (let at = P.slots; at < PAGE_SIZE; at += SLOT_SIZE)
    if (a.compare(b, at, at + SLOT_SIZE, at, at + SLOT_SIZE) !== 0) count++
  return count
}

/** Whether it may be one of any spare, damaged or not. */
export const looksLikePage = (page: Buffer): boolean => page.readUInt32LE(P.magic) === PAGE_MAGIC

/** Why `page` is not the page that belongs in `place`; `undefined` when it is. */
export function pageDamage(page: Buffer, place: PagePlace): string | undefined {
  if (page.readUInt32LE(P.magic) !== PAGE_MAGIC) return 'is not a slot page'
  if (!isSealed(page, P.crc)) return 'checksum does not match'
  if (page.compare(place.uuid, 0, UUID_PREFIX, P.uuid, P.uuid + UUID_PREFIX) !== 0)
    return 'belongs to another formatting'
  if (page.readUInt32LE(P.page) !== place.page) return `holds page ${page.readUInt32LE(P.page)} (misdirected write)`
  if (page.readUInt8(P.copy) !== place.copy) return `holds table copy ${page.readUInt8(P.copy)} (misdirected write)`
  return undefined
}

export const pageOf = (slot: SlotNumber): number => Math.floor(slot / SLOTS_PER_PAGE)

// --- Shared by headers and pages ----------------------------------------------------------------------------------

function seal(page: Buffer, crcOffset: number): Buffer {
  page.writeUInt32LE(0, crcOffset)
  page.writeUInt32LE(crc32c(page), crcOffset)
  return page
}

function isSealed(page: Buffer, crcOffset: number): boolean {
  const recorded = page.readUInt32LE(crcOffset)
  // A copy of the page would cost as much as its checksum.
  page.writeUInt32LE(0, crcOffset)
  const isRight = crc32c(page) === recorded
  page.writeUInt32LE(recorded, crcOffset)
  return isRight
}

function writeU64(page: Buffer, value: number, offset: number): void {
  page.writeBigUInt64LE(BigInt(value), offset)
}

/** Values beyond 2^53 come out inexact, and then fail the geometry check: no field of ours reaches them. */
const readU64 = (page: Buffer, offset: number): number =>
  page.readUInt32LE(offset) + page.readUInt32LE(offset + 4) * 0x100000000
