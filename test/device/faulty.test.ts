import t from 'tap'
import { DeviceError, type DeviceOperation } from '../../src/device/device.js'
import { FaultyDevice, type FaultRule } from '../support/faulty-device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import { Random } from '../../src/util/random.js'
import { answer } from '../support/rig.js'

const SIZE = 64 * 512
const rule = (operation: DeviceOperation, start: number, end: number, more: Partial<FaultRule> = {}): FaultRule => ({
  operations: [operation],
  start,
  end,
  code: 'EIO',
  ...more,
})

function newDisk(options = {}) {
  const below = new MemoryDevice(SIZE, 'disk')
  below.bytes.fill(7)
  return { below, disk: new FaultyDevice(below, options) }
}

void t.test('a request fails when it overlaps a rule of its operation, by one byte', async (t) => {
  const { disk, below } = newDisk()
  disk.add(rule('write', 1024, 2048, { code: 'ENOSPC' }))
  await t.rejects(
    answer(() => disk.write(1023, [Buffer.alloc(2, 9)])),
    {
      code: 'ENOSPC',
      operation: 'write',
      offset: 1023,
      length: 2,
    },
  )
  await t.rejects(
    answer(() => disk.write(2047, [Buffer.alloc(1, 9)])),
    DeviceError,
  )
  t.equal(below.bytes[1023], 7, 'and leaves the disk below alone')
  await disk.write(1023, [Buffer.alloc(1, 9)])
  await disk.write(2048, [Buffer.alloc(1, 9)])
  await disk.read(1024, Buffer.alloc(1024))
  t.equal(below.bytes[2048], 9)
})

void t.test('each operation has its own rules, and a flush overlaps every rule', async (t) => {
  const { disk } = newDisk()
  disk.add({ operations: ['flush', 'trim', 'write-zeroes'], start: 512, end: 513, code: 'EIO' })
  await disk.read(0, Buffer.alloc(SIZE))
  await disk.write(0, [Buffer.alloc(SIZE)])
  await t.rejects(
    answer(() => disk.flush()),
    { code: 'EIO', operation: 'flush' },
  )
  await t.rejects(
    answer(() => disk.trim(0, SIZE)),
    { code: 'EIO', operation: 'trim' },
  )
  await t.rejects(
    answer(() => disk.writeZeroes(512, 1)),
    { code: 'EIO', operation: 'write-zeroes' },
  )
  await t.rejects(
    answer(() => disk.write(0, [Buffer.alloc(1)], { fua: true })),
    { code: 'EIO', operation: 'flush' },
    'FUA is a write and a flush',
  )
  disk.clear()
  await disk.flush()
  t.same(disk.rules, [])
})

void t.test('a rule with `after` lets so many requests through first', async (t) => {
  const { disk } = newDisk()
  disk.add(rule('read', 0, 512, { after: 2, times: 1 }))
  const read = (offset: number) => answer(() => disk.read(offset, Buffer.alloc(512)))
  await read(0)
  await read(512)
  t.notOk(disk.fails('read', 0, 512), 'those elsewhere do not count')
  await read(0)
  await t.rejects(read(0), { code: 'EIO' })
  await read(0)
})

void t.test('a rule with `times` fails so many requests', async (t) => {
  const { disk } = newDisk()
  disk.add(rule('read', 0, 512, { times: 2 }))
  t.ok(disk.fails('read', 0, 1))
  await t.rejects(answer(() => disk.read(0, Buffer.alloc(1))))
  t.equal(disk.rules[0]?.times, 1)
  await t.rejects(answer(() => disk.read(0, Buffer.alloc(1))))
  await disk.read(0, Buffer.alloc(1))
  t.notOk(disk.fails('read', 0, 1))
})

void t.test('sectors written whole heal, others stay bad', async (t) => {
  const { disk } = newDisk()
  disk.add({ operations: ['read', 'trim'], start: 0, end: 4096, code: 'EIO', healsOnWrite: true })
  await disk.write(1000, [Buffer.alloc(2000)])
  t.notOk(disk.fails('read', 1024, 1536), 'sectors 2 to 4 were written whole')
  t.ok(disk.fails('read', 1023, 1), 'sector 1 only in part')
  t.ok(disk.fails('read', 2560, 1), 'sector 5 only in part')
  t.ok(disk.fails('trim', 1024, 1), 'other operations of the rule do not heal')
  await disk.writeZeroes(0, 4096)
  t.notOk(disk.fails('read', 0, 4096), 'zeroing heals, too')
})

void t.test('a failed write tears when asked to, and never touches its bad sectors', async (t) => {
  const { disk, below } = newDisk({ tear: new Random('tear') })
  disk.add(rule('write', 5 * 512, 6 * 512))
  await t.rejects(answer(() => disk.write(0, [Buffer.alloc(SIZE / 2, 9)])))
  const sectors = Array.from({ length: 32 }, (_, n) => below.bytes[n * 512])
  t.equal(sectors[5], 7)
  t.ok(sectors.includes(9) && sectors.filter((byte) => byte === 7).length > 1, 'a mixture')
})

void t.test('close and the properties of the disk below pass through', async (t) => {
  const { disk, below } = newDisk()
  t.equal(disk.size, below.size)
  t.equal(disk.name, 'disk')
  t.equal(disk.readOnly, false)
  t.equal(disk.blockSizes, below.blockSizes)
  await disk.close()
})
