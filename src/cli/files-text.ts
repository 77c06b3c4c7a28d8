/** What `nbd-remap files` prints: for people, for programs, and for `rsync --files-from`. */
import { isUtf8 } from 'node:buffer'
import type { DiskReport, Placed, Volume } from '../filesystem/examine.js'
import { DAMAGING, type FoundFile, type Kind, KINDS, type Path } from '../filesystem/finding.js'
import { printableName } from '../util/printable.js'
import { SECTOR_SIZE } from '../util/units.js'
import { EXIT } from './exit.js'
import type { FilesOptions, Sort } from './files.js'

export interface Looked {
  readonly report: DiskReport
  readonly what: Sort | 'given'
  /** Its name. */
  readonly disk: string
  readonly notes: readonly string[]
  readonly unreadableSectors: number
}

/** Of these it is not known whose they are. */
const UNTOLD: readonly Kind[] = ['unclaimed', 'unknown']

/** Prints it, and sets the exit code of the process. */
export function printFiles(looked: Looked, { limit, json, print0 }: FilesOptions): void {
  const rows = looked.report.findings
  const shown: Shown = { ...looked, notes: notesOf(looked), rows, files: damagedFiles(rows), limit }
  if (print0) printPaths(shown)
  else process.stdout.write(json ? `${JSON.stringify(asJson(shown), null, 2)}\n` : describe(shown))
  if (rows.some(({ kind }) => UNTOLD.includes(kind))) process.exitCode = EXIT.failed
}

interface Shown extends Omit<Looked, 'report'> {
  readonly report: DiskReport
  readonly rows: readonly Placed[]
  readonly files: readonly DamagedFile[]
  readonly limit: number
}

interface DamagedFile {
  readonly volume: Volume
  readonly file: FoundFile
  readonly sectors: number
}

function notesOf({ report, notes, unreadableSectors }: Looked): string[] {
  const unreadable = `sectors that could not be read while looking, so that what they hold is missing here: ${unreadableSectors}`
  return [...notes, ...report.notes, ...(unreadableSectors > 0 ? [unreadable] : [])]
}

/** In the order of the disk. An inode shares its sector with others: each of them is damaged. */
function damagedFiles(rows: readonly Placed[]): DamagedFile[] {
  const damaged = new Map<FoundFile, { volume: Volume; sectors: number }>()
  for (const { volume, kind, inodes = [], start, end } of rows) {
    if (!volume || !DAMAGING.includes(kind)) continue
    for (const inode of inodes) {
      const file = volume.files.get(inode)
      if (!file) continue
      const sectors = sectorsOf({ start, end }) + (damaged.get(file)?.sectors ?? 0)
      damaged.set(file, { volume, sectors })
    }
  }
  return [...damaged].map(([file, rest]) => ({ file, ...rest }))
}

const sectorsOf = ({ start, end }: { readonly start: number; readonly end: number }): number =>
  Math.ceil(end / SECTOR_SIZE) - Math.floor(start / SECTOR_SIZE)

const sum = (rows: readonly Placed[]): number => rows.reduce((total, row) => total + sectorsOf(row), 0)

/** @throws Error when it would not be clear in which file system they are */
function printPaths({ files, notes }: Shown): void {
  const wanted = files.filter(({ file }) => file.type !== 'directory')
  const volumes = new Set(wanted.map(({ volume }) => volume.partition?.number))
  if (volumes.size > 1)
    throw new Error(`files of the partitions ${[...volumes].join(', ')} are damaged: choose one with --partition`)
  const paths = wanted.flatMap(({ file }) => file.paths.filter(({ isComplete }) => isComplete))
  process.stdout.write(Buffer.concat(paths.flatMap(({ bytes }) => [bytes, Buffer.alloc(1)])))
  const unnamed = wanted.filter(({ file }) => !file.paths.some(({ isComplete }) => isComplete)).length
  const directories = files.length - wanted.length
  const left = [
    ...notes,
    ...(unnamed > 0 ? [`${unnamed} damaged files are not listed: their paths are not known`] : []),
    ...(directories > 0 ? [`${directories} damaged directories are not listed`] : []),
  ]
  for (const note of left) process.stderr.write(`nbd-remap: ${note}\n`)
}

const HEADINGS: Readonly<Record<Looked['what'], (s: string) => string>> = {
  lost: (s) => `lost sector${s}`,
  remapped: (s) => `remapped sector${s}`,
  errors: (s) => `sector${s} of blocks that failed or were late`,
  given: (s) => `sector${s}`,
}

function describe(shown: Shown): string {
  const { disk, what, rows, report, notes, limit } = shown
  if (rows.length === 0) return `${disk}: no ${HEADINGS[what]('s')}\n`
  const row = (sector: string | number, sectors: string | number, part: string | number, text: string): string =>
    `${String(sector).padStart(14)}${String(sectors).padStart(9)}${String(part).padStart(6)}  ${text}`
  const table = rows
    .slice(0, limit)
    .map((finding) =>
      row(
        Math.floor(finding.start / SECTOR_SIZE),
        sectorsOf(finding),
        finding.volume?.partition?.number ?? '-',
        describeFinding(finding),
      ),
    )
  const lines = [
    `${disk}: ${sum(rows)} ${HEADINGS[what](sum(rows) === 1 ? '' : 's')}`,
    ...report.volumes.map(describeVolume),
    ...notes.map((note) => `note: ${note}`),
    '',
    row('main sector', 'sectors', 'part', 'belong to'),
    ...table,
    ...(rows.length > limit ? [`(${limit} of ${rows.length} lines: see --limit)`] : []),
    '',
    `in all: ${totals(rows)}`,
    ...damageLines(shown),
  ]
  return `${lines.join('\n')}\n`
}

function describeVolume({ partition, type, label, uuid, notes }: Volume): string {
  const name = partition ? `partition ${partition.number}` : 'the whole disk'
  const named = label === '' ? '' : ` ${printableName(Buffer.from(label))}`
  const lines = [`${name}: ${type}${named}${uuid === '' ? '' : `, UUID ${uuid}`}`]
  return [...lines, ...notes.map((note) => `note: ${name}: ${note}`)].join('\n')
}

const totals = (rows: readonly Placed[]): string =>
  KINDS.map((kind) => [kind, sum(rows.filter((finding) => finding.kind === kind))] as const)
    .filter(([, sectors]) => sectors > 0)
    .map(([kind, sectors]) => `${sectors} ${kind}`)
    .join(', ')

function damageLines({ files, what }: Shown): string[] {
  const directories = files.filter(({ file }) => file.type === 'directory').length
  const counts = `${files.length - directories} files, ${directories} directories`
  return what === 'lost' ? [`damaged: ${counts}`] : [`concerned: ${counts}`]
}

/** Files that are named in a line. */
const NAMED_MAX = 4

function describeFinding({ kind, detail, volume, inodes = [], start, end, fileOffset = 0 }: Placed): string {
  const named = inodes.slice(0, NAMED_MAX).map((inode) => describeFile(volume?.files.get(inode), inode))
  const who = [...named, ...(inodes.length > NAMED_MAX ? [`${inodes.length - NAMED_MAX} more`] : [])].join(', ')
  const file = inodes[0] === undefined ? undefined : volume?.files.get(inodes[0])
  switch (kind) {
    case 'file': {
      const last = Math.min(fileOffset + end - start, file?.size ?? Infinity) - 1
      return `${who}: bytes ${fileOffset} to ${last} of ${file?.size ?? '?'}`
    }
    case 'directory':
      return `directory ${who}: names of what is in it`
    case 'inode':
      return `all but the names of ${who}`
    case 'map':
      return `${who}: where its content stands, from byte ${fileOffset} on`
    case 'attributes':
      return `extended attributes of ${who}`
    case 'unused':
      return who === '' ? (detail ?? kind) : `reserved for ${who}, holds nothing of it`
    case 'metadata':
    case 'journal':
      return `file system: ${detail ?? kind}`
    case 'free':
      return 'free: no file'
    case 'outside':
      return detail ?? kind
    case 'unclaimed':
      return `no file that was found: ${detail ?? 'it is in use'}`
    case 'unknown':
      return `${volume?.type ?? ''}: ${detail ?? kind}`
  }
}

/** Other names of the same file count as one file. */
function describeFile(file: FoundFile | undefined, inode: number): string {
  const [first, ...others] = file?.paths ?? []
  if (file?.isDeleted) return `inode ${inode} (deleted while it was open)`
  if (!first) return `inode ${inode} (its name was not found)`
  const shown = others.slice(0, NAMED_MAX).map(describePath)
  const more = others.length - shown.length + (file?.morePaths ?? 0)
  const also = [...shown, ...(more > 0 ? [`${more} more names`] : [])]
  return describePath(first) + (also.length > 0 ? ` (also ${also.join(', ')})` : '')
}

const describePath = ({ bytes }: Path): string => printableName(bytes)

function asJson({ report, disk, what, rows, files, notes, limit, unreadableSectors }: Shown) {
  const partitionOf = (volume: Volume | undefined): number | null => volume?.partition?.number ?? null
  const byKind = KINDS.map((kind) => [kind, sum(rows.filter((finding) => finding.kind === kind))])
  return {
    disk,
    sectors: what,
    volumes: report.volumes.map((volume) => ({
      partition: partitionOf(volume),
      'first-sector': (volume.partition?.offset ?? 0) / SECTOR_SIZE,
      type: volume.type,
      label: volume.label,
      uuid: volume.uuid,
      notes: volume.notes,
    })),
    notes,
    'unreadable-sectors': unreadableSectors,
    totals: Object.fromEntries(byKind) as Record<Kind, number>,
    files: files.map(({ volume, file, sectors }) => ({
      partition: partitionOf(volume),
      ...fileAsJson(file),
      'damaged-sectors': sectors,
    })),
    ranges: rows.slice(0, limit).map(({ volume, start, end, kind, detail, inodes, fileOffset }) => ({
      'main-sector': Math.floor(start / SECTOR_SIZE),
      sectors: sectorsOf({ start, end }),
      partition: partitionOf(volume),
      kind,
      ...(detail !== undefined && { detail }),
      ...(inodes && { inodes }),
      ...(fileOffset !== undefined && { 'file-offset': fileOffset }),
    })),
    'total-ranges': rows.length,
  }
}

const fileAsJson = ({ inode, type, size, paths, morePaths, isDeleted }: FoundFile) => ({
  inode,
  type,
  size: size ?? null,
  paths: paths.map(pathAsJson),
  'more-paths': morePaths,
  deleted: isDeleted,
})

/** With its bytes, when they are no UTF-8 and JSON cannot have them. */
const pathAsJson = ({ bytes, isComplete }: Path) => ({
  path: bytes.toString('utf8'),
  complete: isComplete,
  ...(!isUtf8(bytes) && { base64: bytes.toString('base64') }),
})
