/** What is said of a disk as a whole. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { examineDisk } from '../../src/filesystem/examine.js'
import { RangeSet } from '../../src/util/range-set.js'
import { MiB, SECTOR_SIZE } from '../../src/util/units.js'
import { newFolder, pattern } from '../support/cli.js'
import { diskOf, extImage } from '../support/ext-image.js'
import { partitionedDisk } from '../support/partitioned.js'

const onProgress = (): void => undefined
const sectors = (first: number, count: number): [number, number] => [first * SECTOR_SIZE, (first + count) * SECTOR_SIZE]

void t.test('a file system without a partition table is found, and what is behind its end', async (t) => {
  const tree = newFolder(t)
  writeFileSync(join(tree, 'file'), pattern(MiB))
  const image = readFileSync(await extImage(t, { options: ['-t', 'ext4'], size: 8 * MiB, tree }))
  const disk = diskOf(Buffer.concat([image, Buffer.alloc(MiB)]))
  const { findings, volumes } = await examineDisk(disk, RangeSet.of([0, 9 * MiB]), { onProgress })
  t.match(volumes, [{ partition: undefined, type: 'ext4' }])
  t.match(findings.at(-1), {
    start: 8 * MiB,
    end: 9 * MiB,
    kind: 'outside',
    detail: 'behind the end of the file system',
  })
  t.match(
    findings.find(({ kind }) => kind === 'file'),
    { volume: volumes[0], fileOffset: 0 },
  )
  const boot = RangeSet.of([0, 512])
  const bootLost = await examineDisk(diskOf(image, boot), boot, { onProgress })
  t.match(bootLost, { notes: ['the partition table, if there is one, cannot be read'], volumes: [{ type: 'ext4' }] })
})

void t.test('each partition is looked at that is concerned, and no other', async (t) => {
  const script = 'label: gpt\nstart=2048, size=16384\nstart=18432, size=16384\nstart=40960, size=8192\n'
  const data = readFileSync(partitionedDisk(join(newFolder(t), 'disk.img'), 32 * MiB, script))
  const tree = newFolder(t)
  writeFileSync(join(tree, 'file'), pattern(MiB))
  readFileSync(await extImage(t, { options: ['-t', 'ext3'], size: 8 * MiB, tree })).copy(data, 2048 * SECTOR_SIZE)
  data.write('XFSB', 18432 * SECTOR_SIZE, 'latin1')
  const lost = RangeSet.of(sectors(1000, 2), sectors(4096, 1), sectors(20000, 3), sectors(34815, 3))
  const report = await examineDisk(diskOf(data), lost, { onProgress })
  t.same(
    report.volumes.map(({ partition, type }) => [partition?.number, type]),
    [
      [1, 'ext3'],
      [2, 'xfs'],
    ],
  )
  t.same(
    report.findings.map(({ start, end, kind, volume }) => [
      start / SECTOR_SIZE,
      end / SECTOR_SIZE,
      kind,
      volume?.partition?.number,
    ]),
    [
      [1000, 1002, 'outside', undefined],
      [4096, 4097, report.findings[1]?.kind, 1],
      [20000, 20003, 'unknown', 2],
      [34815, 34816, 'unknown', 2],
      [34816, 34818, 'outside', undefined],
    ],
  )
  const only = await examineDisk(diskOf(data), lost, { onProgress, partition: 2 })
  t.same(
    only.findings.map(({ start }) => start / SECTOR_SIZE),
    [20000, 34815],
  )
})

void t.test('of what is not known, that is said', async (t) => {
  const whole = RangeSet.of([0, 512])
  const saidOf = async (place: number, magic: string) => {
    const data = Buffer.alloc(MiB)
    data.write(magic, place, 'latin1')
    const { volumes, findings } = await examineDisk(diskOf(data), whole, { onProgress })
    return [volumes[0]?.type, findings[0]?.kind, findings[0]?.detail]
  }
  t.match(await saidOf(0, ''), ['unknown', 'unknown', 'nothing that is known here'])
  t.match(await saidOf(0x10040, '_BHRfS_M'), ['btrfs', 'unknown', /not looked up in a file system of this kind/])
  t.match(await saidOf(512, 'LABELONE'), ['LVM2_member', 'unknown', /not looked up in what lies in it/])
  t.match(await saidOf(4086, 'SWAPSPACE2'), ['swap', 'unknown', /no file is in it/])
})

void t.test('features that are not known here are not guessed at', async (t) => {
  const image = readFileSync(await extImage(t, { options: ['-t', 'ext4'], size: 8 * MiB, tree: newFolder(t) }))
  image.writeUInt32LE(image.readUInt32LE(1024 + 0x60) | 0x100000, 1024 + 0x60)
  const { findings } = await examineDisk(diskOf(image), RangeSet.of([0, 512]), { onProgress })
  t.match(findings, [{ kind: 'unknown', detail: 'it has features that are not known here (incompat 0x100000)' }])
})

void t.test('when nothing is asked, nothing is read', async (t) => {
  const disk = { size: MiB, read: () => Promise.reject(new Error('was read')) }
  t.same(await examineDisk(disk, new RangeSet(), { onProgress }), { volumes: [], findings: [], notes: [] })
})
