/** `nbd-remap files`: which files the lost sectors of a partitioned disk belong to. */
import { linkSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { FaultInjector } from '../../qemu/faults.js'
import { StorageDaemon } from '../../qemu/storage-daemon.js'
import { MiB, SECTOR_SIZE, sector } from '../../src/util/units.js'
import {
  cli,
  digest,
  fails,
  MANY_PROCESSES_TIMEOUT_MS,
  newFolder,
  newPair,
  newSpare,
  type PairFiles,
  pattern,
  Serve,
} from '../support/cli.js'
import { debugfs, extImage } from '../support/ext-image.js'
import { partitionedDisk } from '../support/partitioned.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

const FIRST = 2048
const SECOND = FIRST + (16 * MiB) / SECTOR_SIZE
const DISK_SIZE = 20 * MiB
const PER_BLOCK = 8

interface FilesAnswer {
  readonly totals: Readonly<Record<string, number>>
  readonly files: readonly { readonly inode: number; readonly paths: readonly { readonly path: string }[] }[]
  readonly ranges: readonly Readonly<Record<string, unknown>>[]
}

/** A disk with ext4 and what looks like LUKS, and the sectors in it that are to be bad. */
async function makeDisk(t: Test, folder: string) {
  const tree = newFolder(t)
  mkdirSync(join(tree, 'folder with spaces'))
  writeFileSync(join(tree, 'folder with spaces/größe'), pattern(20_000, 2))
  linkSync(join(tree, 'folder with spaces/größe'), join(tree, 'again'))
  writeFileSync(join(tree, 'two\nlines'), pattern(3000, 3))
  writeFileSync(join(tree, 'deleted'), pattern(8192, 4))
  writeFileSync(join(tree, 'healthy'), pattern(8192, 5))
  writeFileSync(join(tree, 'without inode'), pattern(100, 6))
  for (let n = 0; n < 20; n++) writeFileSync(join(tree, `between ${n}`), '')
  const options = ['-t', 'ext4', '-b', '4096', '-L', 'root']
  const image = await extImage(t, { options, size: 16 * MiB, tree })
  const blockOf = (path: string, n = 0): number =>
    Number(
      debugfs(image, [`blocks "${path}"`])
        .trim()
        .split('\n')
        .at(-1)
        ?.split(' ')[n],
    )
  // debugfs takes no name with a line break.
  const inodeOf = (start: string): string =>
    `<${new RegExp(`(\\d+) +\\(\\d+\\) ${start}`).exec(debugfs(image, ['ls /']))?.[1] ?? ''}>`
  const deleted = blockOf('/deleted')
  debugfs(image, ['rm /deleted'], '-w')
  const [, bitmap = ''] = /block bitmap at (\d+)/.exec(debugfs(image, ['stats'])) ?? []
  const [, table = '', offset = ''] =
    /located at block (\d+), offset (0x\w+)/.exec(debugfs(image, ['imap "/without inode"'])) ?? []
  const at = (block: number): number => FIRST + block * PER_BLOCK
  const sectors = {
    file: at(blockOf('/folder with spaces/größe', 1)) + 3,
    lines: at(blockOf(inodeOf('two'))),
    inode: at(Number(table)) + Math.floor(Number(offset) / SECTOR_SIZE),
    bitmap: at(Number(bitmap)) + 7,
    free: at(deleted) + 1,
    luks: SECOND + 100,
    outside: 100,
  }
  const main = join(folder, 'main.img')
  const script = `label: gpt\nstart=${FIRST}, size=${SECOND - FIRST}, type=L\nstart=${SECOND}, type=L\n`
  const disk = readFileSync(partitionedDisk(main, DISK_SIZE, script))
  readFileSync(image).copy(disk, FIRST * SECTOR_SIZE)
  Buffer.from('LUKS\xba\xbe', 'latin1').copy(disk, SECOND * SECTOR_SIZE)
  writeFileSync(main, disk)
  return { main, sectors }
}

/** Served, with these sectors bad beneath, and lost since they were read. */
async function serveBad(t: Test, files: PairFiles, sectors: readonly number[]) {
  const daemon = await StorageDaemon.start({ directory: files.folder, disks: [{ name: 'main', file: files.main }] })
  t.teardown(() => daemon.close())
  const server = await Serve.start(t, { ...files, main: daemon.uri('main') })
  const faults = new FaultInjector(daemon, 'main')
  await faults.set(sectors.map((bad) => ({ sector: sector(bad), operation: 'read' as const })))
  const client = await server.connect()
  for (const bad of sectors) await t.rejects(client.read(bad * SECTOR_SIZE, Buffer.alloc(SECTOR_SIZE)), /NBD_EIO/)
  await client.disconnect()
  return { server, daemon, faults }
}

void t.test('lost sectors are told by file, and what is no file is named', async (t) => {
  const folder = newFolder(t)
  const { main, sectors } = await makeDisk(t, folder)
  const files = { folder, main, spare: newSpare(folder) }
  const { server, daemon } = await serveBad(t, files, Object.values(sectors))
  const online = ['files', '--control', server.controlPath]

  const { code, stdout } = await cli(t, ...online)
  t.equal(code, 1, 'of what is encrypted it is not known')
  const rows = stdout.split('\n').filter((line) => /^ +\d/.test(line))
  t.same(
    rows.map((line) => line.trim().replaceAll(/ +/g, ' ')),
    [
      `${sectors.outside} 1 - in no partition`,
      `${sectors.bitmap} 1 1 file system: block bitmap of group 0`,
      `${sectors.inode} 1 1 all but the names of /without inode`,
      `${sectors.file} 1 1 /again (also /folder with spaces/größe): bytes 5632 to 6143 of 20000`,
      `${sectors.free} 1 1 free: no file`,
      `${sectors.lines} 1 1 "/two\\nlines": bytes 0 to 511 of 3000`,
      `${sectors.luks} 1 2 crypto_LUKS: encrypted: its files cannot be known from outside`,
    ],
  )
  t.match(stdout, /^nbd\S+: 7 lost sectors\npartition 1: ext4 root, UUID \S{36}$/m)
  t.match(
    stdout,
    /^in all: 2 file, 1 inode, 1 metadata, 1 free, 1 outside, 1 unknown\ndamaged: 3 files, 0 directories$/m,
  )

  const answer = JSON.parse((await cli(t, ...online, '--json')).stdout) as FilesAnswer
  t.match(answer, { totals: { file: 2, inode: 1, free: 1, map: 0 }, 'unreadable-sectors': 0, 'total-ranges': 7 })
  t.same(
    answer.files.map((file) => file.paths.map(({ path }) => path)),
    [['/without inode'], ['/again', '/folder with spaces/größe'], ['/two\nlines']],
  )
  const inFile = answer.ranges.find((range) => range['main-sector'] === sectors.file)
  t.match(inFile, { sectors: 1, partition: 1, kind: 'file', 'file-offset': 5632, inodes: [answer.files[1]?.inode] })

  const list = await cli(t, ...online, '--partition', '1', '--print0')
  t.equal(list.code, 0, 'and of the rest it is')
  t.equal(list.stdout, '/without inode\0/again\0/folder with spaces/größe\0/two\nlines\0')
  t.match((await cli(t, ...online, '--limit', '2')).stdout, /^\(2 of 7 lines: see --limit\)$/m)

  t.match((await cli(t, ...online, '--of', 'errors')).stdout, /: 56 sectors of blocks that failed or were late$/m)
  t.match((await cli(t, ...online, '--of', 'remapped')).stdout, /: 56 remapped sectors$/m)
  t.match((await cli(t, ...online, String(sectors.file + 8))).stdout, / \/again .*: bytes 9728 to 10239 of 20000$/m)

  await server.end()
  await daemon.close()
  const before = [main, files.spare].map(digest)
  const offline = await cli(t, 'files', '--main', main, '--spare', files.spare, '--json')
  t.equal(offline.code, 1, offline.stderr)
  t.same(
    (JSON.parse(offline.stdout) as FilesAnswer).ranges,
    answer.ranges,
    'the pair says the same when it is not served',
  )
  t.same([main, files.spare].map(digest), before, 'and nothing was written')
})

void t.test('what turns out to be unreadable while it is looked at is counted, and lost from then on', async (t) => {
  const folder = newFolder(t)
  const { main, sectors } = await makeDisk(t, folder)
  const { server, faults } = await serveBad(t, { folder, main, spare: newSpare(folder) }, [sectors.lines])
  await faults.set([{ sector: sector(sectors.inode), operation: 'read' }])
  const first = await cli(t, 'files', '--control', server.controlPath, '--partition', '1')
  t.match(
    first.stdout,
    /^note: sectors that could not be read while looking, so that what they hold is missing here: 1$/m,
  )
  t.match(first.stdout, /"\/two\\nlines": bytes 0 to 511 of 3000$/m)
  const second = await cli(t, 'files', '--control', server.controlPath, '--partition', '1')
  t.match(second.stdout, /: 2 lost sectors\n/)
  t.match(second.stdout, / all but the names of \/without inode$/m)
  t.notMatch(second.stdout, /while looking/)
})

void t.test('without lost sectors there is nothing to say, whatever is on the disk', async (t) => {
  const pair = newPair(t)
  const server = await Serve.start(t, pair)
  const said = await cli(t, 'files', '--control', server.controlPath)
  t.same([said.code, said.stdout], [0, `${server.uri}: no lost sectors\n`])
  const printed = await cli(t, 'files', '--control', server.controlPath, '--print0')
  t.same([printed.code, printed.stdout, printed.stderr], [0, '', ''])
})

void t.test('an image that ddrescue made needs no pair: the gaps of its map are not read', async (t) => {
  const folder = newFolder(t)
  const { main, sectors } = await makeDisk(t, folder)
  const map = join(folder, 'rescue.map')
  const bad = sectors.lines * SECTOR_SIZE
  writeFileSync(map, `0 + 1\n0 ${bad} +\n${bad} 512 -\n${bad + 512} ${DISK_SIZE - bad - 512} +\n`)
  const said = await cli(t, 'files', '--disk', main, '--from', map)
  t.equal(said.code, 0)
  t.match(said.stdout, /main\.img: 1 sector\n/)
  t.match(said.stdout, /"\/two\\nlines": bytes 0 to 511 of 3000$/m)
  const two = await cli(t, 'files', '--disk', main, String(sectors.outside), `${sectors.free}+2`, '--json')
  t.match(JSON.parse(two.stdout), { totals: { outside: 1, free: 2 } })
})

void t.test('what cannot be meant is refused', async (t) => {
  const { main, spare } = newPair(t)
  const usage = async (sentence: RegExp, ...args: string[]): Promise<string> =>
    fails(t, 2, sentence, ['files', ...args], [main])
  await usage(/give --control, of a server, or --main and --spare/)
  await usage(/give --control/, '--control', '/nowhere', '--main', main)
  await usage(/--main needs --spare/, '--main', main)
  await usage(/--of errors needs --control/, '--main', main, '--spare', spare, '--of', 'errors')
  await usage(/which sectors are meant/, '--disk', main)
  await usage(/give sectors, or --from, or --of/, '--disk', main, '--of', 'lost', '17')
  await usage(/sector 8192 is behind the end of the disk/, '--disk', main, '8190+3')
  await usage(/SECTOR or SECTOR\+COUNT/, '--disk', main, '1+2+3')
  await usage(/sector number/, '--disk', main, 'x')
  await fails(t, 1, /no partition table/, ['files', '--disk', main, '17', '--partition', '1'], [main])
  await fails(t, 1, /no server answers/, ['files', '--control', join(newFolder(t), 'none')])
})
