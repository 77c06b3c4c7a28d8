/**
 * Whose the blocks of ext2, ext3 and ext4 are. Every block of every kind of file system is compared with what debugfs says of it, and
 * with the files that were put there.
 */
import {
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  type Stats,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import t, { type Test } from 'tap'
import { examineExt } from '../../../src/filesystem/ext/examine.js'
import { openExt } from '../../../src/filesystem/ext/file-system.js'
import type { FileSystem, Finding, FoundFile } from '../../../src/filesystem/finding.js'
import { RangeSet } from '../../../src/util/range-set.js'
import type { Random } from '../../../src/util/random.js'
import { KiB, MiB, SECTOR_SIZE } from '../../../src/util/units.js'
import { newFolder, pattern } from '../../support/cli.js'
import { seededRandom } from '../../support/random.js'
import { debugfs, diskOf, extImage } from '../../support/ext-image.js'

t.setTimeout(300_000)

const bytes = (...parts: (string | number)[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from([part]))))

/** A folder with files of all kinds. */
function makeTree(t: Test): string {
  const tree = newFolder(t)
  const put = (name: string | Buffer, content: Buffer | string): void => {
    writeFileSync(Buffer.concat([bytes(tree, '/'), Buffer.from(name)]), content)
  }
  mkdirSync(`${tree}/a folder/deeper/ünï`, { recursive: true })
  put('a folder/two words', pattern(5000, 2))
  put('a folder/line\nbreak', pattern(3000, 3))
  put('a folder/deeper/ünï/日本', pattern(70_000, 4))
  put(bytes('not utf-8 ', 0xff, 0xfe), pattern(9000, 5))
  put('empty', '')
  put('tiny', 'tiny')
  put('small', pattern(100, 6))
  put('large', pattern(700_000, 7))
  linkSync(`${tree}/large`, `${tree}/a folder/hard link`)
  symlinkSync('tiny', `${tree}/short link`)
  symlinkSync('x'.repeat(200), `${tree}/long link`)
  mkdirSync(`${tree}/many`)
  for (let n = 0; n < 300; n++) put(`many/file with a rather long name, so that they fill some blocks ${n}`, `${n}`)
  putHoles(`${tree}/holes`)
  return tree
}

/** Data and holes in turn, which takes many extents. */
function putHoles(path: string): void {
  const file = openSync(path, 'w')
  const data = pattern(4 * KiB, 8)
  for (let n = 0; n < 200; n++) writeSync(file, data, 0, data.length, n * 8 * KiB)
  closeSync(file)
}

const FILE_SYSTEMS: Readonly<Record<string, readonly string[]>> = {
  ext2: ['-t', 'ext2', '-b', '1024'],
  'ext2 of the first version': ['-t', 'ext2', '-r', '0', '-b', '1024', '-O', 'none'],
  ext3: ['-t', 'ext3', '-b', '2048'],
  ext4: ['-t', 'ext4', '-b', '4096'],
  'ext4 with blocks of 1 KiB': ['-t', 'ext4', '-b', '1024'],
  'ext4 with small groups': ['-t', 'ext4', '-b', '1024', '-g', '1024', '-O', '^flex_bg'],
  'ext4 with content in inodes': ['-t', 'ext4', '-b', '4096', '-I', '512', '-O', 'inline_data'],
  'ext4 with clusters': ['-t', 'ext4', '-b', '4096', '-O', 'bigalloc', '-C', '16384'],
  'ext4 with scattered descriptors': ['-t', 'ext4', '-b', '1024', '-g', '512', '-O', 'meta_bg,^resize_inode'],
  'ext4 with two copies of the superblock': [
    '-t',
    'ext4',
    '-b',
    '1024',
    '-g',
    '1024',
    '-O',
    'sparse_super2,^resize_inode',
  ],
  'ext4 with quotas, and protected from two mounts': ['-t', 'ext4', '-b', '1024', '-O', 'quota,mmp'],
  'ext4 without extents and checksums': ['-t', 'ext4', '-b', '1024', '-O', '^extents,^64bit,^metadata_csum'],
}

for (const [name, options] of Object.entries(FILE_SYSTEMS)) {
  void t.test(`every block of ${name} is told of as debugfs does, and has the content of the file`, async (t) => {
    const tree = makeTree(t)
    const image = await extImage(t, { options, size: 16 * MiB, tree })
    const data = readFileSync(image)
    const found = await examine(data, RangeSet.of([0, data.length]))
    t.same(found.notes, [])
    comparesWithDebugfs(t, image, found)
    comparesWithFiles(t, data, tree, found)
  })
}

async function examine(data: Buffer, lost: RangeSet, missing = new RangeSet()): Promise<FileSystem> {
  const fs = await openExt(diskOf(data, missing))
  if (!fs) throw new Error('no file system was found')
  return examineExt(fs, lost, () => undefined)
}

/** Of each block: the inode, 0 when it has none, and whether it is in use. */
function blocksOf(image: string): { blockSize: number; blocks: { inode: number; isUsed: boolean }[] } {
  const stats = debugfs(image, ['stats'])
  const count = Number(/Block count:\s+(\d+)/.exec(stats)?.[1])
  const blockSize = Number(/Block size:\s+(\d+)/.exec(stats)?.[1])
  const numbers = Array.from({ length: count }, (_, n) => n)
  const blocks = numbers.map(() => ({ inode: 0, isUsed: false }))
  const commands: string[] = []
  for (let n = 0; n < count; n += 1000) commands.push(`icheck ${numbers.slice(n, n + 1000).join(' ')}`)
  for (const [, block, inode] of debugfs(image, commands).matchAll(/^(\d+)\t(\d+)$/gm))
    Object.assign(blocks[Number(block)] ?? {}, { inode: Number(inode) })
  const tests = debugfs(
    image,
    numbers.slice(1).map((n) => `testb ${n}`),
  )
  for (const [, block] of tests.matchAll(/^Block (\d+) marked in use$/gm))
    Object.assign(blocks[Number(block)] ?? {}, { isUsed: true })
  return { blockSize, blocks }
}

function comparesWithDebugfs(t: Test, image: string, { findings }: FileSystem): void {
  const { blockSize, blocks } = blocksOf(image)
  t.ok(blocks.length > 1000 && blocks.some(({ isUsed }) => isUsed) && blocks.some(({ inode }) => inode > 11))
  let wrong = 0
  const isBigalloc = findings.some(({ kind }) => kind === 'unclaimed')
  for (const [block, said] of blocks.entries()) {
    const there = findings.filter(({ start, end }) => start < (block + 1) * blockSize && end > block * blockSize)
    const isRight = there.length > 0 && there.every((finding) => agrees(finding, said, block, isBigalloc))
    if (!isRight && wrong++ < 5) t.fail(`block ${block}`, { said, there })
  }
  t.equal(wrong, 0, 'blocks of which something else is said')
}

function agrees(
  { kind, inodes }: Finding,
  { inode, isUsed }: { inode: number; isUsed: boolean },
  block: number,
  isBigalloc: boolean,
): boolean {
  if (inode === 2 || inode > 10) {
    return ['file', 'directory', 'map', 'attributes', 'unused'].includes(kind) && inodes?.includes(inode) === true
  }
  if (inode === 8) return kind === 'journal'
  if (inode > 0) return kind === 'metadata'
  // debugfs knows nothing of the first block when blocks have 1 KiB.
  if (!isUsed && block > 0) return kind === 'free'
  return kind === 'metadata' || kind === 'inode' || (isBigalloc && kind === 'unclaimed')
}

interface Entry {
  /** From the top of the tree. */
  readonly path: Buffer
  readonly stats: Stats
  /** Of a file, or where a link leads. */
  readonly content: Buffer
}

function* walk(folder: Buffer, above: Buffer = Buffer.alloc(0)): Generator<Entry> {
  for (const name of readdirSync(folder, { encoding: 'buffer' })) {
    const [path, place] = [below(above, name), below(folder, name)]
    const stats = lstatSync(place)
    if (stats.isDirectory()) yield* walk(place, path)
    if (stats.isFile()) yield { path, stats, content: readFileSync(place) }
    else yield { path, stats, content: stats.isSymbolicLink() ? readlinkSync(place, 'buffer') : Buffer.alloc(0) }
  }
}

const below = (folder: Buffer, name: Buffer): Buffer => Buffer.concat([folder, Buffer.from('/'), name])

function comparesWithFiles(t: Test, image: Buffer, tree: string, { findings, files }: FileSystem): void {
  const byPath = new Map(
    [...files.values()].flatMap((file) => file.paths.map((path) => [path.bytes.toString('hex'), file])),
  )
  let count = 0
  for (const { path, stats, content } of walk(Buffer.from(tree))) {
    count++
    const file = byPath.get(path.toString('hex'))
    if (!t.ok(file, `${path.toString()} is found`) || !file) continue
    const isFolder = stats.isDirectory()
    t.match(file, {
      type: isFolder ? 'directory' : stats.isFile() ? 'file' : 'symlink',
      ...(isFolder ? {} : { size: stats.size }),
      isDeleted: false,
      morePaths: 0,
    })
    t.equal(file.paths.length, isFolder ? 1 : stats.nlink, path.toString())
    for (const { start, end, kind, inodes, fileOffset = 0 } of findings) {
      if (kind !== 'file' || inodes?.[0] !== file.inode) continue
      const there = content.subarray(fileOffset, fileOffset + end - start)
      if (!image.subarray(start, start + there.length).equals(there)) t.fail(`${path.toString()} at ${fileOffset}`)
    }
  }
  t.ok(count > 300)
}

const all = (data: Buffer): RangeSet => RangeSet.of([0, data.length])

/** Some sectors in 1000, and now and then many in a row. */
function someSectors(random: Random, size: number): RangeSet {
  const some = new RangeSet()
  for (let sector = random.below(200); sector < size / SECTOR_SIZE; sector += random.between(1, 300)) {
    const end = Math.min(size, (sector + (random.below(10) === 0 ? random.between(2, 40) : 1)) * SECTOR_SIZE)
    some.append(sector * SECTOR_SIZE, end)
    sector = end / SECTOR_SIZE
  }
  return some
}

/** Of each sector what is said of it. */
function bySector({ findings }: FileSystem): Map<number, Finding[]> {
  const sectors = new Map<number, Finding[]>()
  for (const finding of findings)
    for (let at = finding.start; at < finding.end; at += SECTOR_SIZE)
      sectors.set(at, [...(sectors.get(at) ?? []), finding])
  return sectors
}

const pathsOf = ({ files }: FileSystem): Map<number, string[]> =>
  new Map([...files.values()].map((file) => [file.inode, namesOf(file)]))
const namesOf = ({ paths }: FoundFile): string[] =>
  paths.flatMap(({ bytes, isComplete }) => (isComplete ? [bytes.toString('hex')] : []))

for (const name of [
  'ext2',
  'ext4',
  'ext4 with small groups',
  'ext4 with content in inodes',
  'ext4 with scattered descriptors',
]) {
  void t.test(`what is said of a damaged ${name} is true, or that it is not known`, async (t) => {
    const random = seededRandom(t)
    const image = await extImage(t, { options: FILE_SYSTEMS[name] ?? [], size: 16 * MiB, tree: makeTree(t) })
    const data = readFileSync(image)
    const whole = await examine(data, all(data))
    const [truth, names] = [bySector(whole), pathsOf(whole)]
    let known = 0
    for (let round = 0; round < 10; round++) {
      const lost = someSectors(random, data.length)
      const garbled = Buffer.from(data)
      for (const { start, end } of lost.pieces()) garbled.fill(0xa5, start, end)
      const fs = await openExt(diskOf(garbled, lost))
      // No superblock is left.
      if (!fs) continue
      const found = await examineExt(fs, lost, () => undefined)
      for (const [at, said] of bySector(found)) {
        const real = truth.get(at) ?? []
        for (const finding of said) {
          if (isUntold(finding)) continue
          known++
          if (!real.some((one) => isSame(one, finding, at)))
            t.fail(`SEED=${random.seed} round ${round}, offset ${at}`, { said: finding, real })
        }
      }
      for (const [inode, said] of pathsOf(found)) {
        const real = names.get(inode) ?? []
        if (!said.every((path) => real.includes(path)))
          t.fail(`SEED=${random.seed} round ${round}, names of inode ${inode}`, { said, real })
      }
      t.equal(
        [...bySector(found).keys()].length,
        [...lost.pieces()].reduce((sum, { start, end }) => sum + (end - start) / SECTOR_SIZE, 0),
        'something is said of each',
      )
    }
    t.ok(known > 1000, 'and mostly it is known')
  })
}

const isUntold = ({ kind, detail = '' }: Finding): boolean =>
  kind === 'unclaimed' || (kind === 'metadata' && detail.includes('cannot be read'))

function isSame(real: Finding, said: Finding, at: number): boolean {
  if (said.kind === 'inode') return real.kind === said.kind && isPart(said.inodes, real.inodes)
  const offset = (finding: Finding): number | undefined =>
    finding.kind === 'map' || finding.fileOffset === undefined
      ? finding.fileOffset
      : finding.fileOffset + at - finding.start
  return real.kind === said.kind && isPart(said.inodes, real.inodes) && offset(real) === offset(said)
}

const isPart = (some: readonly number[] = [], all: readonly number[] = []): boolean =>
  some.every((one) => all.includes(one))

void t.test('an ext4 that is full of nonsense is examined to the end, or refused', async (t) => {
  const random = seededRandom(t)
  for (const name of ['ext2', 'ext4 with small groups', 'ext4 with content in inodes']) {
    const data = readFileSync(
      await extImage(t, { options: FILE_SYSTEMS[name] ?? [], size: 8 * MiB, tree: makeTree(t) }),
    )
    const metadata = (await examine(data, all(data))).findings.filter(({ kind }) => kind !== 'file' && kind !== 'free')
    for (let round = 0; round < 10; round++) {
      const garbled = Buffer.from(data)
      for (let n = 0; n < 300; n++) {
        const { start, end } = random.pick(metadata)
        garbled.writeUInt8(random.below(256), random.between(start, end - 1))
      }
      const found = await examine(garbled, all(data)).catch((error: unknown) => error)
      if (found instanceof Error)
        t.match(found.message, /superblock is damaged|no file system|not known here|journal of/)
      else
        t.equal(bySector(found as FileSystem).size, data.length / SECTOR_SIZE, `SEED=${random.seed} ${name} ${round}`)
    }
  }
})

/** A small tree in ext4 with some groups, and what debugfs says on a question. */
async function smallImage(t: Test): Promise<{ image: string; ask: (command: string, pattern: RegExp) => number }> {
  const tree = newFolder(t)
  mkdirSync(`${tree}/folder`)
  for (const name of ['folder/one', 'folder/two', 'three']) writeFileSync(`${tree}/${name}`, pattern(10_000, 9))
  const options = FILE_SYSTEMS['ext4 with small groups'] ?? []
  const image = await extImage(t, { options, size: 8 * MiB, tree })
  return { image, ask: (command, pattern) => Number(pattern.exec(debugfs(image, [command]))?.[1]) }
}

/** What is found when one block is lost. */
const loseBlock = (image: string, block: number): Promise<FileSystem> => {
  const lost = RangeSet.of([block * KiB, (block + 1) * KiB])
  return examine(readFileSync(image), lost, lost)
}

const named = ({ findings, files }: FileSystem) =>
  findings.map(({ kind, inodes = [] }) => [
    kind,
    ...inodes.flatMap((inode) => files.get(inode)?.paths.map(({ bytes }) => bytes.toString()) ?? []),
  ])

void t.test('a superblock and descriptors that are lost are taken from their copies', async (t) => {
  const { image } = await smallImage(t)
  const data = readFileSync(image)
  const truth = named(await examine(data, all(data)))
  t.ok(truth.some(([kind, path]) => kind === 'file' && path === '/folder/two'))
  // With groups as small as these its first copy is not where it is looked for.
  const descriptors = await examine(data, all(data), RangeSet.of([2 * KiB, 3 * KiB]))
  t.same(named(descriptors), truth)
  // A copy is as old as the file system, and says that next to nothing is in use.
  const stale = Buffer.from(data)
  for (let at = 1026 * KiB; at < 1027 * KiB; at += 64) {
    stale.writeUInt16LE(3, at + 0x12)
    stale.writeUInt16LE(0xffff, at + 0x1c)
  }
  t.same(named(await examine(stale, all(stale), RangeSet.of([2 * KiB, 3 * KiB]))), truth)
  const larger = await extImage(t, { options: ['-t', 'ext4', '-b', '1024'], size: 16 * MiB, tree: makeTree(t) })
  const whole = readFileSync(larger)
  const lost = RangeSet.of([0, 3 * KiB])
  const found = await examine(whole, all(whole), lost)
  t.match(found.notes, [/^the superblock cannot be read/])
  t.same(named(found), named(await examine(whole, all(whole))))
})

void t.test('a file without a name is told by its inode', async (t) => {
  const { image, ask } = await smallImage(t)
  const inode = ask('stat /three', /Inode: (\d+)/)
  const block = ask('blocks /three', /(\d+)/)
  debugfs(image, ['unlink /three'], '-w')
  const unlinked = await loseBlock(image, block)
  t.match(unlinked.files.get(inode), { paths: [], isDeleted: false, size: 10_000 })
  debugfs(image, [`set_inode_field <${inode}> links_count 0`], '-w')
  t.match((await loseBlock(image, block)).files.get(inode), { paths: [], isDeleted: true })
})

void t.test('what a deleted file has left behind is free', async (t) => {
  const { image, ask } = await smallImage(t)
  const block = ask('blocks /folder/two', /(\d+)/)
  t.same(named(await loseBlock(image, block)), [['file', '/folder/two']])
  debugfs(image, ['rm /folder/two'], '-w')
  t.same(named(await loseBlock(image, block)), [['free']])
})

void t.test('a lost block of a directory is told of, and its files are named as far as can be', async (t) => {
  const { image, ask } = await smallImage(t)
  const directory = ask('blocks /folder', /(\d+)/)
  t.same(named(await loseBlock(image, directory)), [['directory', '/folder']])
  const file = ask('blocks /folder/one', /(\d+)/)
  const lost = RangeSet.of(
    ...[directory, file].sort((a, b) => a - b).map((block): [number, number] => [block * KiB, (block + 1) * KiB]),
  )
  const both = await examine(readFileSync(image), lost, lost)
  t.same(named(both).sort(), [['directory', '/folder'], ['file']])
  t.match(both.notes, ['1 directories cannot be read whole: names may be missing here'])
})

void t.test('extended attributes that have a block of their own belong to all files that share it', async (t) => {
  const { image, ask } = await smallImage(t)
  const value = 'v'.repeat(600)
  debugfs(image, [`ea_set /three user.note ${value}`], '-w')
  const block = ask('stat /three', /File ACL: (\d+)/)
  t.ok(block > 0)
  t.same(named(await loseBlock(image, block)), [['attributes', '/three']])
})

void t.test('a file system that was not unmounted says so', async (t) => {
  const { image } = await smallImage(t)
  debugfs(image, ['feature needs_recovery'], '-w')
  const { notes } = await loseBlock(image, 0)
  t.match(notes, [/^the file system is mounted, or was not unmounted/])
})

void t.test('a map that leads into itself is followed once', async (t) => {
  const tree = newFolder(t)
  writeFileSync(`${tree}/file`, pattern(20 * KiB))
  const image = await extImage(t, { options: FILE_SYSTEMS['ext2'] ?? [], size: 8 * MiB, tree })
  const [, table = '', offset = ''] = /block (\d+), offset (0x\w+)/.exec(debugfs(image, ['imap /file'])) ?? []
  const data = readFileSync(image)
  const map = Number(table) * KiB + Number(offset) + 0x28
  const indirect = data.readUInt32LE(map + 4 * 12)
  data.writeUInt32LE(indirect, map + 4 * 14)
  for (let at = 0; at < KiB; at += 4) data.writeUInt32LE(indirect, indirect * KiB + at)
  const disk = diskOf(data)
  let reads = 0
  const counted = { size: disk.size, read: (at: number, length: number) => (reads++, disk.read(at, length)) }
  const fs = await openExt(counted)
  if (!fs) throw new Error('no file system was found')
  const found = await examineExt(fs, all(data), () => undefined)
  t.match(found.notes, [/^where the content of 1 files stands cannot be read whole/])
  t.ok(reads < 1000, `${reads} reads`)
})
