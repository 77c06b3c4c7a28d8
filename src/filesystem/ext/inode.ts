/** Inodes, and where they stand. */
import type { Source } from '../source.js'
import type { Groups } from './groups.js'
import type { Superblock } from './superblock.js'

export const BAD_BLOCKS_INODE = 1
export const ROOT_INODE = 2
export const RESIZE_INODE = 7

export const FLAGS = {
  encrypt: 0x800,
  extents: 0x80000,
  verity: 0x100000,
  eaInode: 0x200000,
  inlineData: 0x10000000,
} as const

export type InodeType = 'file' | 'directory' | 'symlink' | 'other'

const TYPES: ReadonlyMap<number, InodeType> = new Map([
  [0x8000, 'file'],
  [0x4000, 'directory'],
  [0xa000, 'symlink'],
])

/** A view of the bytes of an inode. */
export class Inode {
  constructor(
    readonly number: number,
    readonly bytes: Buffer,
  ) {}

  get type(): InodeType {
    return TYPES.get(this.bytes.readUInt16LE(0) & 0xf000) ?? 'other'
  }

  /** The list of bad blocks has no mode. */
  get isUsed(): boolean {
    return this.bytes.readUInt16LE(0) !== 0 || this.number === BAD_BLOCKS_INODE
  }

  get links(): number {
    return this.bytes.readUInt16LE(0x1a)
  }

  get size(): number {
    return this.bytes.readUInt32LE(4) + this.bytes.readUInt32LE(0x6c) * 2 ** 32
  }

  has(flag: number): boolean {
    return (this.bytes.readUInt32LE(0x20) & flag) !== 0
  }

  /** What says where its content is, or is content itself. */
  get map(): Buffer {
    return this.bytes.subarray(0x28, 0x64)
  }

  /** The block with its extended attributes; 0: it has none. */
  get attributeBlock(): number {
    return this.bytes.readUInt32LE(0x68) + this.bytes.readUInt16LE(0x76) * 2 ** 32
  }

  /** Devices and sockets have none, short links have their target in their place, and small files their content. */
  get hasBlocks(): boolean {
    const { type } = this
    if (this.number === BAD_BLOCKS_INODE) return true
    if (type === 'other' || this.has(FLAGS.inlineData)) return false
    return type !== 'symlink' || this.has(FLAGS.extents) || this.size >= this.map.length
  }
}

const AHEAD = 256 * 1024

/** Reads inodes one by one, most of which are asked for in their order. */
export class InodeTable {
  readonly #source: Source
  readonly #superblock: Superblock
  readonly #groups: Groups
  #chunk: { readonly offset: number; readonly data: Buffer; readonly isWhole: boolean } | undefined

  constructor(source: Source, superblock: Superblock, groups: Groups) {
    this.#source = source
    this.#superblock = superblock
    this.#groups = groups
  }

  /** Offset of an inode in bytes; `undefined`: there is no such inode, or it is not known where. */
  placeOf(number: number): number | undefined {
    const { inodesPerGroup, inodeSize, inodesCount, blockSize } = this.#superblock
    if (number < 1 || number > inodesCount) return undefined
    const group = this.#groups.at(Math.floor((number - 1) / inodesPerGroup))
    return group && group.inodeTable * blockSize + ((number - 1) % inodesPerGroup) * inodeSize
  }

  /** @returns undefined when it cannot be read */
  async read(number: number): Promise<Inode | undefined> {
    const place = this.placeOf(number)
    const bytes = place === undefined ? undefined : await this.#bytesAt(place, this.#superblock.inodeSize)
    return bytes && new Inode(number, bytes)
  }

  async #bytesAt(offset: number, length: number): Promise<Buffer | undefined> {
    const start = offset - (offset % AHEAD)
    if (this.#chunk?.offset !== start) this.#chunk = { offset: start, ...(await this.#source.read(start, AHEAD)) }
    const { data, isWhole } = this.#chunk
    if (isWhole) return data.subarray(offset - start, offset - start + length)
    const alone = await this.#source.read(offset, length)
    return alone.isWhole ? alone.data : undefined
  }

  /**
   * The inodes of a group that are in use, in their order. Without a bitmap these are all that look like it.
   * @returns false when some that may be in use cannot be read
   */
  async forEachUsed(group: number, visit: (inode: Inode) => Promise<void>): Promise<boolean> {
    const there = this.#groups.at(group)
    if (!there) return false
    const used = await this.usedIn(group)
    let isComplete = true
    for (let n = 0; n < there.inodesUsed; n++) {
      if (used && !isSet(used, n)) continue
      const inode = await this.read(group * this.#superblock.inodesPerGroup + n + 1)
      if (inode?.isUsed && (used || inode.links > 0)) await visit(inode)
      if (!inode) isComplete = false
    }
    return isComplete
  }

  /** The bitmap of the inodes in use; `undefined`: it cannot be read. */
  async usedIn(group: number): Promise<Buffer | undefined> {
    const there = this.#groups.at(group)
    if (!there) return undefined
    const { blockSize, inodesPerGroup } = this.#superblock
    const bytes = Math.ceil(inodesPerGroup / 8)
    if (there.inodesUsed === 0) return Buffer.alloc(bytes)
    const { data, isWhole } = await this.#source.read(there.inodeBitmap * blockSize, bytes)
    return isWhole ? data : undefined
  }
}

export const isSet = (bitmap: Buffer, bit: number): boolean => (((bitmap[bit >>> 3] ?? 0) >>> (bit & 7)) & 1) === 1
