/**
 * Whose given bytes of an ext2, ext3 or ext4 are. Fixed places first, then what the bitmaps say is free; only for the rest all inodes
 * are gone through, and only for those that are hit directories are searched for names.
 */
import { RangeSet } from '../../util/range-set.js'
import { alignUp, SECTOR_SIZE } from '../../util/units.js'
import type { FileSystem, Finding, FoundFile, OnProgress } from '../finding.js'
import { BlockBitmaps } from './block-bitmaps.js'
import type { Run } from './block-map.js'
import type { ExtFileSystem } from './file-system.js'
import { BAD_BLOCKS_INODE, FLAGS, type Inode, RESIZE_INODE, ROOT_INODE } from './inode.js'
import { type InodeSector, inodeSectors } from './inode-sectors.js'
import { type Area, INODES, Layout, RESERVED } from './layout.js'
import { findNames } from './names.js'
import { INCOMPAT, type Superblock, typeOf } from './superblock.js'

/** Files that are named at most. */
export const FILES_MAX = 100_000
/** Files that share a block of attributes and are listed. */
const SHARERS_MAX = 64

/** @param lost bytes */
export async function examineExt(fs: ExtFileSystem, lost: RangeSet, onProgress: OnProgress): Promise<FileSystem> {
  const examination = new Examination(fs, onProgress)
  await examination.run(lost)
  const { superblock } = fs
  const { label, uuid } = superblock
  const { findings, files, notes } = examination
  return { type: typeOf(superblock), label, uuid, findings, files, notes }
}

class Examination {
  readonly files = new Map<number, FoundFile>()
  readonly notes: string[] = []
  readonly #fs: ExtFileSystem
  readonly #onProgress: OnProgress
  #findings: Finding[] = []
  /** Inodes to be named, and how many names they have. */
  readonly #wanted = new Map<number, number>()
  readonly #inodes = new Map<number, Inode | undefined>()
  readonly #directories: number[] = []
  readonly #attributes = new Map<number, number[]>()
  /** Inodes of which it cannot be read whether they are in use: they are when they have a name. */
  readonly #doubtful = new Set<number>()
  /** Files of which it is not known where all of their content stands. */
  #damagedMaps = 0
  /** Of these bytes it cannot be read whether they are in use. */
  readonly #undecided = new RangeSet()

  constructor(fs: ExtFileSystem, onProgress: OnProgress) {
    this.#fs = fs
    this.#onProgress = onProgress
  }

  get findings(): readonly Finding[] {
    return this.#findings
  }

  async run(lost: RangeSet): Promise<void> {
    this.#noteState()
    const rest = await this.#withoutFree(await this.#withoutFixed(lost))
    if (rest.size > 0 || this.#wanted.size > 0) await this.#claim(rest)
    this.#claimRest(rest)
    await this.#name()
    this.#findings.sort((a, b) => a.start - b.start)
  }

  #noteState(): void {
    const { superblock, groups } = this.#fs
    if (superblock.isBackup) this.notes.push('the superblock cannot be read: this is what a copy of it says')
    else if ((superblock.incompat & INCOMPAT.recover) !== 0)
      this.notes.push(
        'the file system is mounted, or was not unmounted: what was changed last may still be in its journal, which is not read here',
      )
    if (groups.missing > 0)
      this.notes.push(
        `the descriptors of ${groups.missing} block groups cannot be read: files in them are missing here`,
      )
  }

  /** Neighbours of which the same is to be said become one. */
  #find(finding: Finding): void {
    const last = this.#findings.at(-1)
    if (last && continues(last, finding)) this.#findings[this.#findings.length - 1] = { ...last, end: finding.end }
    else this.#findings.push(finding)
  }

  /** @returns what is in no fixed place */
  async #withoutFixed(lost: RangeSet): Promise<RangeSet> {
    const { superblock, groups } = this.#fs
    const { blockSize, blocksCount } = superblock
    const layout = new Layout(superblock, groups)
    const size = blocksCount * blockSize
    const rest = new RangeSet()
    for (const { start, end } of lost.pieces()) {
      let at = start
      const inside = Math.max(start, Math.min(end, size))
      for (const area of layout.within(Math.floor(start / blockSize), Math.ceil(inside / blockSize))) {
        const [from, to] = [Math.max(at, area.start * blockSize), Math.min(inside, area.end * blockSize)]
        if (from > at) rest.append(at, from)
        if (to > from) await this.#findFixed(area, from, to)
        at = Math.max(at, to)
      }
      if (at < inside) rest.append(at, inside)
      if (inside < end) this.#find({ start: inside, end, kind: 'outside', detail: 'behind the end of the file system' })
    }
    return rest
  }

  async #findFixed({ what, group }: Area, start: number, end: number): Promise<void> {
    if (what !== INODES) this.#find({ start, end, kind: 'metadata', detail: `${what} of group ${group}` })
    else for (const sector of await inodeSectors(this.#fs, group, start, end)) await this.#findInodes(sector)
  }

  async #findInodes({ start, end, inodes, isDoubtful }: InodeSector): Promise<void> {
    for (const number of inodes) {
      this.#want(number, await this.#fs.inodes.read(number))
      if (isDoubtful) this.#doubtful.add(number)
    }
    if (inodes.length > 0) this.#find({ start, end, kind: 'inode', inodes })
    else this.#find({ start, end, kind: 'metadata', detail: 'inodes that no file uses' })
  }

  /** @returns what is in use, or may be */
  async #withoutFree(blocks: RangeSet): Promise<RangeSet> {
    const { source, superblock, groups } = this.#fs
    const { blockSize } = superblock
    const bitmaps = new BlockBitmaps(source, superblock, groups)
    const used = new RangeSet()
    for (const { start, end } of blocks.pieces()) {
      for (let at = start; at < end;) {
        const block = Math.floor(at / blockSize)
        const to = Math.min(end, (block + 1) * blockSize)
        const isUsed = await bitmaps.isUsed(block)
        if (isUsed === false) this.#find({ start: at, end: to, kind: 'free' })
        else used.append(at, to)
        if (isUsed === undefined) this.#undecided.append(at, to)
        at = to
      }
    }
    return used
  }

  /** Goes through all inodes. */
  async #claim(blocks: RangeSet): Promise<void> {
    const { groups, inodes } = this.#fs
    let isComplete = true
    for (let group = 0; group < groups.count; group++) {
      this.#onProgress('looking through inodes', group, groups.count)
      isComplete = (await inodes.forEachUsed(group, (inode) => this.#visit(inode, blocks))) && isComplete
    }
    for (const [block, sharers] of this.#attributes) await this.#findAttributes(block, sharers, blocks)
    if (!isComplete) this.notes.push('some inodes cannot be read: files may be missing here')
    if (this.#damagedMaps > 0)
      this.notes.push(
        `where the content of ${this.#damagedMaps} files stands cannot be read whole: what is unclaimed may be theirs`,
      )
  }

  async #visit(inode: Inode, blocks: RangeSet): Promise<void> {
    if (inode.type === 'directory') this.#directories.push(inode.number)
    if (blocks.size === 0) return
    this.#noteAttributes(inode, blocks)
    const hits: Run[] = []
    const { blockSize } = this.#fs.superblock
    const isComplete = await this.#fs.walkBlocks(inode, (run) => {
      if (blocks.overlaps(run.block * blockSize, (run.block + run.count) * blockSize)) hits.push(run)
    })
    for (const run of hits) this.#hit(inode, run, blocks)
    if (!isComplete) this.#damagedMaps++
  }

  #hit(inode: Inode, run: Run, blocks: RangeSet): void {
    const { blockSize } = this.#fs.superblock
    const [from, to] = [run.block * blockSize, (run.block + run.count) * blockSize]
    const special = specialOf(this.#fs.superblock, inode)
    if (!special) this.#want(inode.number, inode)
    for (const { start, end } of blocks.within(from, to)) {
      if (special) this.#find({ start, end, ...special })
      else if (run.kind === 'map')
        this.#find({ start, end, kind: 'map', inodes: [inode.number], fileOffset: run.logical * blockSize })
      else this.#hitContent(inode, run, { start, end, fileOffset: run.logical * blockSize + start - from })
    }
  }

  #hitContent(inode: Inode, run: Run, piece: { start: number; end: number; fileOffset: number }): void {
    const inodes = [inode.number]
    if (inode.type === 'directory') {
      this.#find({ ...piece, kind: 'directory', inodes })
      return
    }
    const size = inode.has(FLAGS.verity) ? Infinity : alignUp(inode.size, SECTOR_SIZE)
    const contentEnd = run.kind === 'unwritten' ? piece.start : piece.start + Math.max(0, size - piece.fileOffset)
    const middle = Math.min(piece.end, contentEnd)
    if (middle > piece.start) this.#find({ ...piece, end: middle, kind: 'file', inodes })
    if (middle < piece.end) this.#find({ start: Math.max(middle, piece.start), end: piece.end, kind: 'unused', inodes })
  }

  #noteAttributes({ attributeBlock: block, number }: Inode, blocks: RangeSet): void {
    const { blockSize } = this.#fs.superblock
    if (block === 0 || !blocks.overlaps(block * blockSize, (block + 1) * blockSize)) return
    const sharers = this.#attributes.get(block) ?? []
    this.#attributes.set(block, sharers)
    if (sharers.length < SHARERS_MAX) sharers.push(number)
  }

  async #findAttributes(block: number, inodes: readonly number[], blocks: RangeSet): Promise<void> {
    const { blockSize } = this.#fs.superblock
    for (const number of inodes) this.#want(number, await this.#fs.inodes.read(number))
    for (const { start, end } of blocks.within(block * blockSize, (block + 1) * blockSize))
      this.#find({ start, end, kind: 'attributes', inodes })
  }

  #want(number: number, inode: Inode | undefined): void {
    if (this.#wanted.size >= FILES_MAX) return
    this.#inodes.set(number, inode)
    const links = inode?.type === 'directory' ? 1 : inode?.links
    this.#wanted.set(number, links ?? Infinity)
  }

  /** What nobody has claimed. */
  #claimRest(blocks: RangeSet): void {
    const claimed = new RangeSet()
    for (const { start, end } of [...this.#findings].sort((a, b) => a.start - b.start)) claimed.append(start, end)
    for (const { start, end } of blocks.pieces()) {
      for (const gap of claimed.gapsWithin(start, end)) {
        for (const range of this.#undecided.gapsWithin(gap.start, gap.end)) this.#find({ ...range, kind: 'unclaimed' })
        for (const range of this.#undecided.within(gap.start, gap.end))
          this.#find({ ...range, kind: 'unclaimed', detail: 'whether it is in use cannot be read' })
      }
    }
  }

  async #name(): Promise<void> {
    if (this.#wanted.size >= FILES_MAX) this.notes.push(`only ${FILES_MAX} files are named`)
    const named = [...this.#wanted].filter(([, links]) => links > 0)
    const { names, damagedDirectories } = await findNames(this.#fs, this.#directories, new Map(named), this.#onProgress)
    if (damagedDirectories > 0)
      this.notes.push(`${damagedDirectories} directories cannot be read whole: names may be missing here`)
    const isNoFile = (inode: number): boolean => this.#doubtful.has(inode) && !names.has(inode)
    for (const number of this.#doubtful) if (isNoFile(number)) this.#inodes.delete(number)
    this.#findings = this.#findings.map((finding) => without(finding, isNoFile))
    for (const [number, inode] of this.#inodes) {
      const { paths = [], more = 0 } = names.get(number) ?? {}
      this.files.set(number, {
        inode: number,
        type: inode?.type ?? 'other',
        size: inode?.size,
        paths,
        morePaths: more,
        isDeleted: inode?.links === 0,
      })
    }
  }
}

/** Of sectors with inodes only those that are files. */
function without(finding: Finding, isNoFile: (inode: number) => boolean): Finding {
  if (finding.kind !== 'inode') return finding
  const inodes = finding.inodes?.filter((inode) => !isNoFile(inode)) ?? []
  if (inodes.length > 0) return { ...finding, inodes }
  const { start, end } = finding
  return { start, end, kind: 'metadata', detail: 'inodes, of which it cannot be read whether they are in use' }
}

function continues(last: Finding, next: Finding): boolean {
  if (last.end !== next.start || last.kind !== next.kind || last.detail !== next.detail) return false
  const isSame =
    last.inodes?.length === next.inodes?.length && !last.inodes?.some((inode, n) => inode !== next.inodes?.[n])
  const nextOffset = last.fileOffset === undefined ? undefined : last.fileOffset + last.end - last.start
  return isSame && nextOffset === next.fileOffset
}

/** Inodes that are no files. */
function specialOf(superblock: Superblock, { number }: Inode): Pick<Finding, 'kind' | 'detail'> | undefined {
  const { journalInode, quotaInodes, orphanFileInode, firstInode } = superblock
  if (number === journalInode) return { kind: 'journal' }
  if (number === RESIZE_INODE) return { kind: 'metadata', detail: RESERVED }
  if (number === BAD_BLOCKS_INODE) return { kind: 'unused', detail: 'on the list of bad blocks of the file system' }
  if (number === orphanFileInode) return { kind: 'metadata', detail: 'list of files that are being deleted' }
  if (quotaInodes.includes(number)) return { kind: 'metadata', detail: 'quotas' }
  if (number < firstInode && number !== ROOT_INODE) return { kind: 'metadata', detail: `reserved inode ${number}` }
  return undefined
}
