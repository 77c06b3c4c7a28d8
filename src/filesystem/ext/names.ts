/**
 * The names of inodes. An inode does not say what it is called, so directories are read until all names are found; what the
 * directories above are called is then found by their `..`.
 */
import type { OnProgress, Path } from '../finding.js'
import { readDirectory, readParent } from './directory.js'
import type { ExtFileSystem } from './file-system.js'
import { FLAGS, ROOT_INODE } from './inode.js'

/** Hard links of one file that are named. */
export const NAMES_MAX = 64

interface Name {
  readonly parent: number
  readonly name: Buffer
  /** The bytes on disk are not the name. */
  readonly isEncrypted: boolean
}

export interface Names {
  readonly paths: readonly Path[]
  readonly more: number
}

export interface FoundNames {
  readonly names: ReadonlyMap<number, Names>
  /** Directories that could not be read whole. */
  readonly damagedDirectories: number
}

/** @param wanted how many names each inode has; Infinity: that is not known */
export async function findNames(
  fs: ExtFileSystem,
  directories: ArrayLike<number>,
  wanted: ReadonlyMap<number, number>,
  onProgress: OnProgress,
): Promise<FoundNames> {
  const found = await searchDirectories(fs, directories, wanted, onProgress)
  const parents = new Set([...found.names.values()].flatMap((names) => names.list.map(({ parent }) => parent)))
  const above = await nameDirectories(fs, parents)
  const names = new Map<number, Names>()
  for (const [inode, { list, more }] of found.names)
    names.set(inode, { paths: list.map((name) => pathOf(name, above)), more })
  if (wanted.has(ROOT_INODE)) names.set(ROOT_INODE, { paths: [{ bytes: ROOT_PATH, isComplete: true }], more: 0 })
  return { names, damagedDirectories: found.damagedDirectories }
}

const ROOT_PATH = Buffer.from('/')

async function searchDirectories(
  fs: ExtFileSystem,
  directories: ArrayLike<number>,
  wanted: ReadonlyMap<number, number>,
  onProgress: OnProgress,
) {
  const names = new Map<number, { list: Name[]; more: number }>()
  let [left, damagedDirectories] = [wanted.size - (wanted.has(ROOT_INODE) ? 1 : 0), 0]
  const note = (inode: number, name: Name): void => {
    const links = wanted.get(inode)
    if (links === undefined) return
    const known = names.get(inode) ?? { list: [], more: 0 }
    names.set(inode, known)
    if (known.list.length < NAMES_MAX) known.list.push(name)
    else known.more++
    if (known.list.length + known.more === links) left--
  }
  for (let n = 0; n < directories.length && left > 0; n++) {
    onProgress('reading directories', n, directories.length)
    const parent = directories[n] ?? 0
    const isWhole = await visitNames(fs, parent, (inode, name, isEncrypted) => {
      note(inode, { parent, name, isEncrypted })
    })
    if (!isWhole) damagedDirectories++
  }
  return { names, damagedDirectories }
}

async function visitNames(
  { source, superblock, walkBlocks, inodes }: ExtFileSystem,
  number: number,
  visit: (inode: number, name: Buffer, isEncrypted: boolean) => void,
): Promise<boolean> {
  const directory = await inodes.read(number)
  if (directory?.type !== 'directory') return false
  const isEncrypted = directory.has(FLAGS.encrypt)
  return readDirectory(source, superblock, walkBlocks, directory, ({ inode, name }) => {
    // A copy, so that the block is not kept.
    visit(inode, isEncrypted ? Buffer.from(`<encrypted name of inode ${inode}>`) : Buffer.from(name), isEncrypted)
  })
}

/** The names of these directories and of all that they are in, level by level, so that none is read twice for one level. */
async function nameDirectories(
  fs: ExtFileSystem,
  directories: ReadonlySet<number>,
): Promise<ReadonlyMap<number, Name>> {
  const named = new Map<number, Name>()
  const asked = new Set([ROOT_INODE])
  for (let level: ReadonlySet<number> = directories; level.size > 0;) {
    const children = new Map<number, Set<number>>()
    for (const child of level) {
      if (asked.has(child)) continue
      asked.add(child)
      const parent = await parentOf(fs, child)
      if (parent !== undefined) children.set(parent, (children.get(parent) ?? new Set<number>()).add(child))
    }
    for (const [parent, wanted] of children)
      await visitNames(fs, parent, (inode, name, isEncrypted) => {
        if (wanted.has(inode)) named.set(inode, { parent, name, isEncrypted })
      })
    level = new Set(children.keys())
  }
  return named
}

async function parentOf({ source, superblock, walkBlocks, inodes }: ExtFileSystem, number: number) {
  const directory = await inodes.read(number)
  return directory?.type === 'directory' ? readParent(source, superblock, walkBlocks, directory) : undefined
}

/** Directories that lead into each other, in a damaged file system, end it as one without a name does. */
function pathOf(name: Name, above: ReadonlyMap<number, Name>): Path {
  const names = [name]
  const passed = new Set<number>()
  let at = name.parent
  for (let next: Name | undefined; at !== ROOT_INODE; at = next.parent) {
    next = passed.has(at) ? undefined : above.get(at)
    if (!next) break
    passed.add(at)
    names.push(next)
  }
  const start = at === ROOT_INODE ? '' : `<directory with inode ${at}>`
  const bytes = Buffer.concat([Buffer.from(start), ...names.reverse().flatMap((part) => [SEPARATOR, part.name])])
  return { bytes, isComplete: at === ROOT_INODE && !names.some(({ isEncrypted }) => isEncrypted) }
}

const SEPARATOR = Buffer.from('/')
