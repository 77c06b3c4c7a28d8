/** The superblock of ext2, ext3 and ext4: what is needed to find files. Names are those of the kernel, without `s_`. */
import { KiB } from '../../util/units.js'
import type { Source } from '../source.js'

export interface Superblock {
  readonly blockSize: number
  readonly blocksCount: number
  readonly firstDataBlock: number
  readonly blocksPerGroup: number
  /** Blocks for each bit of a block bitmap: 1, but for bigalloc. */
  readonly clusterBlocks: number
  readonly groupCount: number
  readonly inodesPerGroup: number
  readonly inodesCount: number
  readonly inodeSize: number
  readonly firstInode: number
  readonly descriptorSize: number
  readonly compat: number
  readonly incompat: number
  readonly roCompat: number
  /** Blocks after the descriptors, for more of them when the file system grows. */
  readonly reservedDescriptorBlocks: number
  readonly firstMetaGroup: number
  /** The two groups with copies, of sparse_super2. */
  readonly backupGroups: readonly number[]
  readonly journalInode: number
  readonly quotaInodes: readonly number[]
  readonly orphanFileInode: number
  /** Of multiple mount protection; 0: none. */
  readonly mmpBlock: number
  readonly label: string
  readonly lastMounted: string
  readonly uuid: string
  /** Taken from a copy, since the first one cannot be read. */
  readonly isBackup: boolean
}

export const COMPAT = { hasJournal: 0x4, resizeInode: 0x10, sparseSuper2: 0x200, orphanFile: 0x1000 } as const
export const INCOMPAT = {
  filetype: 0x2,
  recover: 0x4,
  journalDevice: 0x8,
  metaBg: 0x10,
  extents: 0x40,
  bits64: 0x80,
  mmp: 0x100,
  flexBg: 0x200,
  eaInode: 0x400,
  checksumSeed: 0x2000,
  largeDirectory: 0x4000,
  inlineData: 0x8000,
  encrypt: 0x10000,
  casefold: 0x20000,
} as const
export const RO_COMPAT = { sparseSuper: 0x1, gdtChecksum: 0x10, bigalloc: 0x200, metadataChecksum: 0x400 } as const

const KNOWN_INCOMPAT = Object.values(INCOMPAT).reduce((sum, bit) => sum | bit, 0)

const OFFSET = 1024
const LENGTH = 1024
const MAGIC = 0xef53
/** Of a petabyte with groups of 128 MiB. */
const GROUPS_MAX = 2 ** 23

/** It is such a file system, and its files cannot be looked up. */
export class UnknownExtError extends Error {
  override name = 'UnknownExtError'
}

/** @returns undefined when there is no such file system @throws UnknownExtError */
export async function readSuperblock(source: Source): Promise<Superblock | undefined> {
  const first = await source.read(OFFSET, LENGTH)
  if (hasMagic(first.data)) return decode(first.data, source.size, false)
  if (first.isWhole) return undefined
  for (const blockSize of [4 * KiB, 1 * KiB, 2 * KiB]) {
    const copy = await source.read(firstCopy(blockSize), LENGTH)
    if (copy.isWhole && isCopy(copy.data, blockSize)) return decode(copy.data, source.size, true)
  }
  return undefined
}

/** Of group 1, if groups are as large as they are made. */
const firstCopy = (blockSize: number): number => (8 * blockSize + (blockSize === KiB ? 1 : 0)) * blockSize

const hasMagic = (data: Buffer): boolean => data.readUInt16LE(0x38) === MAGIC
const blockSizeOf = (data: Buffer): number => KiB * 2 ** data.readUInt32LE(0x18)
const isCopy = (data: Buffer, blockSize: number): boolean =>
  hasMagic(data) && blockSizeOf(data) === blockSize && data.readUInt16LE(0x5a) === 1

function decode(data: Buffer, size: number, isBackup: boolean): Superblock {
  const incompat = data.readUInt32LE(0x60)
  if ((incompat & INCOMPAT.journalDevice) !== 0) throw new UnknownExtError('it is the journal of another file system')
  const unknown = incompat & ~KNOWN_INCOMPAT
  if (unknown !== 0)
    throw new UnknownExtError(`it has features that are not known here (incompat 0x${(unknown >>> 0).toString(16)})`)
  const has64Bits = (incompat & INCOMPAT.bits64) !== 0
  const isOld = data.readUInt32LE(0x4c) === 0
  const compat = data.readUInt32LE(0x5c)
  const roCompat = data.readUInt32LE(0x64)
  const hasClusters = (roCompat & RO_COMPAT.bigalloc) !== 0
  const blockSize = blockSizeOf(data)
  const blocksCount = data.readUInt32LE(0x4) + (has64Bits ? data.readUInt32LE(0x150) * 2 ** 32 : 0)
  const firstDataBlock = data.readUInt32LE(0x14)
  const blocksPerGroup = data.readUInt32LE(0x20)
  const superblock: Superblock = {
    blockSize,
    blocksCount,
    firstDataBlock,
    blocksPerGroup,
    clusterBlocks: hasClusters ? 2 ** (data.readUInt32LE(0x1c) - data.readUInt32LE(0x18)) : 1,
    groupCount: Math.ceil((blocksCount - firstDataBlock) / blocksPerGroup),
    inodesPerGroup: data.readUInt32LE(0x28),
    inodesCount: data.readUInt32LE(0),
    inodeSize: isOld ? 128 : data.readUInt16LE(0x58),
    firstInode: isOld ? 11 : data.readUInt32LE(0x54),
    descriptorSize: has64Bits ? data.readUInt16LE(0xfe) : 32,
    compat,
    incompat,
    roCompat,
    reservedDescriptorBlocks: (compat & COMPAT.resizeInode) === 0 ? 0 : data.readUInt16LE(0xce),
    firstMetaGroup: data.readUInt32LE(0x104),
    backupGroups: [data.readUInt32LE(0x24c), data.readUInt32LE(0x250)],
    journalInode: data.readUInt32LE(0xe0),
    quotaInodes: [0x240, 0x244, 0x26c].map((at) => data.readUInt32LE(at)).filter((inode) => inode !== 0),
    orphanFileInode: data.readUInt32LE(0x280),
    mmpBlock: (incompat & INCOMPAT.mmp) === 0 ? 0 : Number(data.readBigUInt64LE(0x168)),
    label: textOf(data.subarray(0x78, 0x88)),
    lastMounted: textOf(data.subarray(0x88, 0xc8)),
    uuid: data.toString('hex', 0x68, 0x78).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-'),
    isBackup,
  }
  refuseNonsense(superblock, size)
  return superblock
}

const textOf = (bytes: Buffer): string => bytes.toString('utf8').replace(/\0.*$/s, '')

function refuseNonsense(superblock: Superblock, size: number): void {
  const { blockSize, blocksCount, blocksPerGroup, inodesPerGroup, inodeSize, descriptorSize } = superblock
  const bitsMax = 8 * blockSize
  const isSane =
    blockSize <= 64 * KiB &&
    blocksCount * blockSize <= size &&
    inRange(blocksPerGroup, 8, bitsMax * superblock.clusterBlocks) &&
    inRange(superblock.clusterBlocks, 1, 2 ** 20) &&
    inRange(superblock.groupCount, 1, GROUPS_MAX) &&
    inRange(inodesPerGroup, 1, bitsMax) &&
    inRange(inodeSize, 128, blockSize) &&
    Number.isInteger(Math.log2(inodeSize)) &&
    inRange(descriptorSize, 32, blockSize)
  if (!isSane) throw new UnknownExtError('its superblock is damaged, or the file system is larger than its partition')
}

const inRange = (value: number, least: number, most: number): boolean => value >= least && value <= most

/** As mke2fs would have called it. */
export const typeOf = ({ compat, incompat }: Superblock): string => {
  const later = INCOMPAT.extents | INCOMPAT.bits64 | INCOMPAT.flexBg | INCOMPAT.inlineData
  if ((incompat & later) !== 0) return 'ext4'
  return (compat & COMPAT.hasJournal) === 0 ? 'ext2' : 'ext3'
}
