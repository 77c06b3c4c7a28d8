/** The entries of directories. */
import type { Source } from '../source.js'
import type { WalkBlocks } from './block-map.js'
import { FLAGS, type Inode } from './inode.js'
import type { Superblock } from './superblock.js'

export interface Entry {
  readonly inode: number
  /** As it is on disk: any bytes but `/` and NUL. */
  readonly name: Buffer
}

/** Of damaged maps, which lead into themselves or name a block for ever. */
const DIRECTORY_BLOCKS_MAX = 2 ** 20

/**
 * All entries but `.` and `..`.
 * @returns false when some of them cannot be read
 */
export async function readDirectory(
  source: Source,
  superblock: Superblock,
  walkBlocks: WalkBlocks,
  directory: Inode,
  visit: (entry: Entry) => void,
): Promise<boolean> {
  const visitChild = (entry: Entry): void => {
    if (!entry.name.equals(PARENT)) visit(entry)
  }
  if (directory.has(FLAGS.inlineData)) return visitInline(directory, visitChild)
  const blocks: number[] = []
  let isComplete = await walkBlocks(directory, ({ kind, block, count }) => {
    if (kind === 'data') for (let n = 0; n < count && blocks.length < DIRECTORY_BLOCKS_MAX; n++) blocks.push(block + n)
  })
  const { blockSize } = superblock
  for (const block of blocks) {
    const { data, isWhole } = await source.read(block * blockSize, blockSize)
    isComplete = visitEntries(data, 0, visitChild) && isWhole && isComplete
  }
  return isComplete
}

/** The directory that it is in; `undefined`: that cannot be read. */
export async function readParent(
  source: Source,
  { blockSize }: Superblock,
  walkBlocks: WalkBlocks,
  directory: Inode,
): Promise<number | undefined> {
  if (directory.has(FLAGS.inlineData)) return directory.map.readUInt32LE(0)
  let first: number | undefined
  await walkBlocks(directory, ({ kind, block, logical }) => {
    if (kind === 'data' && logical === 0) first = block
  })
  if (first === undefined) return undefined
  let parent: number | undefined
  const { data } = await source.read(first * blockSize, blockSize)
  visitEntries(data, 0, ({ inode, name }) => {
    if (name.equals(PARENT)) parent ??= inode
  })
  return parent
}

/** After the number of the parent come entries, which go on in an attribute. */
function visitInline(directory: Inode, visit: (entry: Entry) => void): boolean {
  const isComplete = visitEntries(directory.map, 4, visit)
  const rest = attributeOf(directory, SYSTEM_DATA)
  return (rest === undefined || visitEntries(rest, 0, visit)) && isComplete
}

/** Inner nodes of an index look like an entry that is not in use. @returns false when it makes no sense */
function visitEntries(block: Buffer, from: number, visit: (entry: Entry) => void): boolean {
  for (let at = from; at + 8 <= block.length;) {
    const inode = block.readUInt32LE(at)
    const length = recordLength(block.readUInt16LE(at + 4), block.length)
    const nameLength = block.readUInt8(at + 6)
    if (length < 8 || at + length > block.length || 8 + nameLength > length) return false
    const name = block.subarray(at + 8, at + 8 + nameLength)
    if (inode !== 0 && isName(name)) visit({ inode, name })
    at += length
  }
  return true
}

/** Of a block of 64 KiB the length does not fit into its field. */
const recordLength = (field: number, blockLength: number): number => {
  if (blockLength < 65536) return field
  return field === 65535 || field === 0 ? blockLength : (field & 65532) | ((field & 3) << 16)
}

/** A name of which a part is missing has zeros there. */
const isName = (name: Buffer): boolean =>
  name.length > 0 && !name.includes(0) && !name.equals(SELF) && !name.includes(0x2f)
const SELF = Buffer.from('.')
const PARENT = Buffer.from('..')

const ATTRIBUTE_MAGIC = 0xea020000
/** `system.data` */
const SYSTEM_DATA = { index: 7, name: 'data' }

/** The value of an attribute that stands in the inode itself. */
function attributeOf({ bytes }: Inode, { index, name }: { index: number; name: string }): Buffer | undefined {
  if (bytes.length <= 128) return undefined
  const header = 128 + bytes.readUInt16LE(0x80)
  if (header + 4 > bytes.length || bytes.readUInt32LE(header) !== ATTRIBUTE_MAGIC) return undefined
  const first = header + 4
  for (let at = first; at + 16 <= bytes.length && bytes.readUInt32LE(at) !== 0;) {
    const nameLength = bytes.readUInt8(at)
    const isIt = bytes.readUInt8(at + 1) === index && bytes.toString('latin1', at + 16, at + 16 + nameLength) === name
    const start = first + bytes.readUInt16LE(at + 2)
    if (isIt) return bytes.subarray(start, start + bytes.readUInt32LE(at + 8))
    at += (16 + nameLength + 3) & ~3
  }
  return undefined
}
