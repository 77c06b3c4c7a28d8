/** Partition tables as sfdisk writes them, damaged ones, and what is none. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { readPartitions } from '../../src/filesystem/partitions.js'
import { RangeSet } from '../../src/util/range-set.js'
import { MiB, SECTOR_SIZE } from '../../src/util/units.js'
import { newFolder, pattern } from '../support/cli.js'
import { diskOf, extImage } from '../support/ext-image.js'
import { partitionedDisk } from '../support/partitioned.js'

const SIZE = 64 * MiB

const diskWith = (t: Test, script: string): Buffer =>
  readFileSync(partitionedDisk(join(newFolder(t), 'disk.img'), SIZE, script))

/** Number, first sector and length of each. */
async function tableOf(disk: Buffer, missing = new RangeSet()) {
  const table = await readPartitions(diskOf(disk, missing))
  const partitions = table?.partitions.map(({ number, offset, size, name }) => [
    number,
    offset / SECTOR_SIZE,
    size / SECTOR_SIZE,
    ...(name === undefined ? [] : [name]),
  ])
  return table && { kind: table.kind, partitions, notes: table.notes }
}

const GPT = `label: gpt
start=34816, size=2048, name="rööt"
start=2048, size=32768
`
const GPT_PARTITIONS = [
  [2, 2048, 32768],
  [1, 34816, 2048, 'rööt'],
]

void t.test('GPT: partitions in the order of the disk, with their numbers and names', async (t) => {
  t.same(await tableOf(diskWith(t, GPT)), { kind: 'gpt', partitions: GPT_PARTITIONS, notes: [] })
})

void t.test('GPT: when the first copy is lost or wrong, the one at the end is taken', async (t) => {
  const disk = diskWith(t, GPT)
  const second = { kind: 'gpt', partitions: GPT_PARTITIONS, notes: [/first copy .* is damaged/] }
  t.match(await tableOf(disk, RangeSet.of([0, 1024])), second, 'not even the protective MBR is left')
  t.match(await tableOf(disk, RangeSet.of([1024, 1536])), second, 'an entry is lost')
  const wrong = Buffer.from(disk)
  wrong.writeUInt8(7, 1024 + 130)
  t.match(await tableOf(wrong), second, 'an entry is wrong')
  const unreadable = { kind: 'unreadable', partitions: [], notes: [/cannot be read/] }
  t.match(await tableOf(wrong, RangeSet.of([SIZE - 512, SIZE])), unreadable, 'nothing is believed without a checksum')
  t.match(await tableOf(Buffer.alloc(MiB), RangeSet.of([0, 512])), unreadable, 'nor is it said that there is none')
})

void t.test('MBR: primary and logical partitions have the numbers that the kernel gives them', async (t) => {
  const script = `label: dos
start=2048, size=4096, type=83
start=8192, size=98304, type=5
start=10240, size=2048, type=83
start=16384, size=4096, type=83
start=32768, size=8192, type=83
`
  const disk = diskWith(t, script)
  const partitions = [
    [1, 2048, 4096],
    [5, 10240, 2048],
    [6, 16384, 4096],
    [7, 32768, 8192],
  ]
  t.same(await tableOf(disk), { kind: 'mbr', partitions, notes: [] })
  const link = 14336 * SECTOR_SIZE
  t.equal(disk.readUInt16LE(link + 510), 0xaa55, 'the second table of the chain')
  t.match(await tableOf(disk, RangeSet.of([link, link + 512])), {
    partitions: partitions.slice(0, 2),
    notes: ['the partition table in sector 14336 cannot be read: logical partitions are missing here'],
  })
  disk.writeUInt32LE(0, link + 462 + 8)
  t.match(await tableOf(disk), { partitions: partitions.slice(0, 3) })
})

void t.test('MBR: a chain that leads back ends', async (t) => {
  const disk = diskWith(t, 'label: dos\nstart=2048, size=98304, type=5\nstart=4096, size=2048\nstart=8192, size=2048\n')
  const table = await tableOf(disk)
  t.equal(table?.partitions?.length, 2)
  const second = disk.readUInt32LE(2048 * SECTOR_SIZE + 462 + 8) + 2048
  disk.writeUInt32LE(2048, second * SECTOR_SIZE + 462 + 4)
  disk.writeUInt32LE(1, second * SECTOR_SIZE + 462 + 8)
  t.equal((await tableOf(disk))?.partitions?.length, 2)
})

void t.test('boot sectors of file systems, blank disks and garbage are no tables', async (t) => {
  t.equal(await tableOf(Buffer.alloc(MiB)), undefined)
  t.equal(await tableOf(pattern(MiB)), undefined)
  const boot = Buffer.alloc(MiB)
  boot.write('mkfs.fat', 3, 'latin1')
  boot.write('This is not a bootable disk', 440, 'latin1')
  boot.writeUInt16LE(0xaa55, 510)
  t.equal(await tableOf(boot), undefined)
  const ext = await extImage(t, { options: ['-t', 'ext4'], size: 8 * MiB, tree: newFolder(t) })
  t.equal(await tableOf(readFileSync(ext)), undefined)
})

void t.test('a partition that reaches behind the end of the disk is left out', async (t) => {
  const disk = diskWith(t, 'label: dos\nstart=2048, size=4096\nstart=8192, size=4096\n')
  t.same((await tableOf(disk.subarray(0, 10_000 * SECTOR_SIZE)))?.partitions, [[1, 2048, 4096]])
})
