/** Partition tables: MBR with its chain of logical partitions, and GPT, whose second copy is taken when the first is damaged. */
import { crc32 } from 'node:zlib'
import { SECTOR_SIZE } from '../util/units.js'
import type { Source } from './source.js'

export interface Partition {
  /** As the kernel counts: `sda5` is number 5. */
  readonly number: number
  /** In bytes. */
  readonly offset: number
  readonly size: number
  /** The name that a GPT has for it. */
  readonly name?: string
}

export interface PartitionTable {
  /** `unreadable`: there may be one. */
  readonly kind: 'gpt' | 'mbr' | 'unreadable'
  /** In the order of the disk. */
  readonly partitions: readonly Partition[]
  /** What is wrong with it. */
  readonly notes: readonly string[]
}

export const PARTITIONS_MAX = 256

/** @returns undefined when there is none */
export async function readPartitions(disk: Source): Promise<PartitionTable | undefined> {
  const { data: sector, isWhole } = await disk.read(0, SECTOR_SIZE)
  const entries = isWhole ? mbrEntries(sector, disk.size / SECTOR_SIZE) : undefined
  if (isWhole && !entries) return undefined
  const isProtective = entries?.some(({ type }) => type === TYPE_GPT) ?? true
  const gpt = isProtective ? await readGpt(disk) : undefined
  const table = gpt ?? (entries && !isProtective ? await readMbr(disk, entries) : UNREADABLE)
  return { ...table, partitions: inside(table.partitions, disk.size) }
}

const UNREADABLE: PartitionTable = {
  kind: 'unreadable',
  partitions: [],
  notes: ['the partition table, if there is one, cannot be read'],
}

const inside = (partitions: readonly Partition[], diskSize: number): Partition[] =>
  partitions
    .filter(({ offset, size }) => size > 0 && offset + size <= diskSize)
    .sort((a, b) => a.offset - b.offset)
    .slice(0, PARTITIONS_MAX)

const TYPE_GPT = 0xee
const EXTENDED_TYPES: readonly number[] = [0x05, 0x0f, 0x85]

interface MbrEntry {
  readonly number: number
  readonly type: number
  readonly firstSector: number
  readonly sectors: number
}

/** Boot sectors of file systems have the same signature, and something else where the entries would be. */
function mbrEntries(sector: Buffer, diskSectors: number): MbrEntry[] | undefined {
  if (sector.readUInt16LE(510) !== 0xaa55) return undefined
  const entries: MbrEntry[] = []
  for (let n = 0; n < 4; n++) {
    const at = 446 + 16 * n
    if ((sector.readUInt8(at) & 0x7f) !== 0) return undefined
    const [firstSector, sectors] = [sector.readUInt32LE(at + 8), sector.readUInt32LE(at + 12)]
    entries.push({ number: n + 1, type: sector.readUInt8(at + 4), firstSector, sectors })
  }
  const used = entries.filter(({ type, sectors }) => type !== 0 && sectors > 0)
  const isPlausible = used.every(({ firstSector }) => firstSector > 0 && firstSector < diskSectors)
  return used.length > 0 && isPlausible ? used : undefined
}

async function readMbr(disk: Source, entries: readonly MbrEntry[]): Promise<PartitionTable> {
  const notes: string[] = []
  const partitions: Partition[] = []
  for (const entry of entries) {
    if (EXTENDED_TYPES.includes(entry.type)) partitions.push(...(await readLogical(disk, entry.firstSector, notes)))
    else partitions.push(partitionOf(entry.number, entry.firstSector, entry.sectors))
  }
  return { kind: 'mbr', partitions, notes }
}

const partitionOf = (number: number, firstSector: number, sectors: number): Partition => ({
  number,
  offset: firstSector * SECTOR_SIZE,
  size: sectors * SECTOR_SIZE,
})

/** A chain of tables: each has one partition, from itself on, and the next table, from the extended partition on. */
async function readLogical(disk: Source, extended: number, notes: string[]): Promise<Partition[]> {
  const found: Partition[] = []
  for (let at = extended; found.length < PARTITIONS_MAX;) {
    const { data, isWhole } = await disk.read(at * SECTOR_SIZE, SECTOR_SIZE)
    if (!isWhole) notes.push(`the partition table in sector ${at} cannot be read: logical partitions are missing here`)
    if (!isWhole || data.readUInt16LE(510) !== 0xaa55) return found
    const [first, sectors] = [data.readUInt32LE(446 + 8), data.readUInt32LE(446 + 12)]
    if (sectors > 0) found.push(partitionOf(5 + found.length, at + first, sectors))
    const next = data.readUInt32LE(462 + 8)
    if (next === 0 || extended + next <= at) return found
    at = extended + next
  }
  return found
}

const GPT_ENTRIES_MAX = 1024
const GPT_ENTRY_MAX = 4096

/** Sectors of the table are 512 bytes, or 4096 where it was made on such a disk. */
async function readGpt(disk: Source): Promise<PartitionTable | undefined> {
  for (const unit of [SECTOR_SIZE, 4096]) {
    const first = await readGptCopy(disk, unit, unit)
    if (first) return { kind: 'gpt', partitions: first, notes: [] }
    const second = await readGptCopy(disk, unit, disk.size - unit)
    if (!second) continue
    const notes = ['the first copy of the partition table is damaged: this is what the one at the end of the disk says']
    return { kind: 'gpt', partitions: second, notes }
  }
  return undefined
}

async function readGptCopy(disk: Source, unit: number, offset: number): Promise<Partition[] | undefined> {
  const { data: header, isWhole } = await disk.read(offset, SECTOR_SIZE)
  if (!isWhole || header.toString('latin1', 0, 8) !== 'EFI PART' || !isIntact(header)) return undefined
  const [count, size] = [header.readUInt32LE(80), header.readUInt32LE(84)]
  if (count > GPT_ENTRIES_MAX || size < 128 || size > GPT_ENTRY_MAX) return undefined
  const entries = await disk.read(Number(header.readBigUInt64LE(72)) * unit, count * size)
  if (!entries.isWhole || crc32(entries.data) !== header.readUInt32LE(88)) return undefined
  return [...gptEntries(entries.data, size, unit)]
}

function isIntact(header: Buffer): boolean {
  const length = header.readUInt32LE(12)
  if (length < 92 || length > header.length) return false
  const copy = Buffer.from(header.subarray(0, length))
  copy.writeUInt32LE(0, 16)
  return crc32(copy) === header.readUInt32LE(16)
}

function* gptEntries(table: Buffer, size: number, unit: number): Generator<Partition> {
  for (let n = 0; (n + 1) * size <= table.length; n++) {
    const entry = table.subarray(n * size, (n + 1) * size)
    if (entry.subarray(0, 16).every((byte) => byte === 0)) continue
    const [first, last] = [Number(entry.readBigUInt64LE(32)), Number(entry.readBigUInt64LE(40))]
    const name = entry.toString('utf16le', 56, 128).replace(/\0.*$/s, '')
    yield { number: n + 1, offset: first * unit, size: (last + 1 - first) * unit, ...(name !== '' && { name }) }
  }
}
