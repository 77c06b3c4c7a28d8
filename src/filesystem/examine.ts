/** Whose given bytes of a disk are: which partition, which file system, which files. */
import { RangeSet } from '../util/range-set.js'
import { examineExt } from './ext/examine.js'
import { openExt } from './ext/file-system.js'
import { UnknownExtError } from './ext/superblock.js'
import type { FileSystem, Finding, OnProgress } from './finding.js'
import { type Partition, readPartitions } from './partitions.js'
import { identify } from './signature.js'
import { partOf, type Source } from './source.js'

/** A partition, or the whole disk when it has none. */
export interface Volume extends Omit<FileSystem, 'findings'> {
  /** `undefined`: the whole disk. */
  readonly partition: Partition | undefined
}

export interface Placed extends Finding {
  /** `undefined`: it is in none. */
  readonly volume: Volume | undefined
}

export interface DiskReport {
  /** Those that some of the bytes lie in. */
  readonly volumes: readonly Volume[]
  /** In the order of the disk. */
  readonly findings: readonly Placed[]
  readonly notes: readonly string[]
}

export interface ExamineOptions {
  /** Leave out what is not in the partition with this number. */
  readonly partition?: number | undefined
  readonly onProgress: OnProgress
}

/** @param lost bytes of the disk */
export async function examineDisk(
  disk: Source,
  lost: RangeSet,
  { partition: only, onProgress }: ExamineOptions,
): Promise<DiskReport> {
  if (lost.size === 0) return inOrder([], [])
  const table = await readPartitions(disk)
  if (!table || table.kind === 'unreadable') {
    if (only !== undefined) throw new Error('there is no partition table on the disk, or it cannot be read')
    return inOrder([await examineVolume(disk, undefined, lost, onProgress)], table?.notes ?? [])
  }
  const examined: Examined[] = []
  for (const partition of table.partitions) {
    if (only !== undefined && partition.number !== only) continue
    const { offset, size } = partition
    const inside = shifted(lost, offset, offset + size)
    if (inside.size > 0) examined.push(await examineVolume(partOf(disk, offset, size), partition, inside, onProgress))
  }
  if (only !== undefined) return inOrder(examined, table.notes)
  const inside = new RangeSet()
  for (const { offset, size } of table.partitions) inside.append(offset, offset + size)
  const outside = [...inside.gapsWithin(0, disk.size)]
    .flatMap(({ start, end }) => [...lost.within(start, end)])
    .map((range): Placed => ({ ...range, kind: 'outside', detail: 'in no partition', volume: undefined }))
  return inOrder(examined, table.notes, outside)
}

interface Examined {
  readonly volume: Volume
  readonly findings: readonly Finding[]
}

function inOrder(examined: readonly Examined[], notes: readonly string[], outside: readonly Placed[] = []): DiskReport {
  const placed = examined.flatMap(({ volume, findings }) => {
    const offset = volume.partition?.offset ?? 0
    return findings.map((finding) => ({ ...finding, start: finding.start + offset, end: finding.end + offset, volume }))
  })
  const findings = [...placed, ...outside].sort((a, b) => a.start - b.start)
  return { volumes: examined.map(({ volume }) => volume), findings, notes }
}

async function examineVolume(
  source: Source,
  partition: Partition | undefined,
  lost: RangeSet,
  onProgress: OnProgress,
): Promise<Examined> {
  const name = partition ? `partition ${partition.number}: ` : ''
  const { findings, ...found } = await examineFileSystem(source, lost, (what, done, total) => {
    onProgress(`${name}${what}`, done, total)
  })
  return { volume: { partition, ...found }, findings }
}

async function examineFileSystem(source: Source, lost: RangeSet, onProgress: OnProgress): Promise<FileSystem> {
  const known = await identify(source)
  if (known) return unknown(lost, known.type, known.detail)
  try {
    const ext = await openExt(source)
    if (ext) return await examineExt(ext, lost, onProgress)
  } catch (error) {
    if (!(error instanceof UnknownExtError)) throw error
    return unknown(lost, 'ext', error.message)
  }
  return unknown(lost, 'unknown', 'nothing that is known here')
}

function unknown(lost: RangeSet, type: string, detail: string): FileSystem {
  const findings = [...lost.pieces()].map(({ start, end }): Finding => ({ start, end, kind: 'unknown', detail }))
  return { type, label: '', uuid: '', findings, files: new Map(), notes: [] }
}

/** What lies in [start, end), counted from `start`. */
function shifted(ranges: RangeSet, start: number, end: number): RangeSet {
  const part = new RangeSet()
  for (const range of ranges.within(start, end)) part.append(range.start - start, range.end - start)
  return part
}
