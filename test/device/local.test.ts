import { closeSync, constants, openSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { LocalDevice, type LocalDisk } from '../../src/device/local.js'
import { MemoryDevice } from '../../src/device/memory.js'
import type { Completion, Device } from '../../src/device/device.js'
import { deviceErrorFrom } from '../../src/device/system-error.js'
import { Random } from '../../src/util/random.js'
import { MiB } from '../../src/util/units.js'
import { answer, readFrom } from '../support/rig.js'

const SIZE = 5 * MiB + 100

function openLocal(path: string, more: Partial<LocalDisk> = {}): LocalDevice {
  return new LocalDevice({
    name: path,
    fd: openSync(path, constants.O_RDWR),
    size: SIZE,
    readOnly: false,
    blockSizes: { minimum: 1, preferred: 4096, maximum: 64 * MiB },
    writesThrough: false,
    trimCommand: ['fallocate', '--punch-hole', '--keep-size'],
    zeroCommand: ['fallocate', '--punch-hole', '--keep-size'],
    ...more,
  })
}

function newFile(folder: string): string {
  const path = join(folder, 'disk.img')
  writeFileSync(path, Buffer.alloc(SIZE, 1))
  return path
}

void t.test('a file and a memory disk behave alike under random requests', async (t) => {
  const seed = process.env['SEED'] ?? new Random().seed
  t.comment(`SEED=${seed}`)
  const random = new Random(seed)
  const path = newFile(t.testdir({}))
  const memory = new MemoryDevice(SIZE)
  memory.bytes.fill(1)
  const file = openLocal(path)
  const both = async (request: (device: Device) => Completion) => {
    await Promise.all([memory, file].map((device) => answer(() => request(device))))
  }
  for (let n = 0; n < 150; n++) {
    const offset = random.below(SIZE)
    const length = random.below(Math.min(SIZE - offset, random.pick([5000, 3 * MiB])) + 1)
    const fua = random.below(4) === 0
    const kind = random.below(4)
    const data = random.bytes(Math.min(length, 9000))
    const cut = random.below(data.length + 1)
    if (kind === 0) await both((device) => device.writeZeroes(offset, length, { fua, noHole: random.below(2) === 0 }))
    else if (kind === 1) await both((device) => device.flush())
    else await both((device) => device.write(offset, [data.subarray(0, cut), data.subarray(cut)], { fua }))
    t.ok(
      (await readFrom(file, offset, length)).equals(await readFrom(memory, offset, length)),
      `SEED=${seed} step ${n}`,
    )
  }
  await file.close()
  t.ok(readFileSync(path).equals(memory.bytes))
})

void t.test('a write in thousands of chunks arrives whole', async (t) => {
  const path = newFile(t.testdir({}))
  const device = openLocal(path)
  const chunks = Array.from({ length: 5000 }, (_, n) => Buffer.alloc(n % 7, n))
  await device.write(123, chunks)
  const whole = Buffer.concat(chunks)
  t.ok((await readFrom(device, 123, whole.length)).equals(whole))
  await device.close()
})

void t.test('a trimmed range keeps its size and its neighbours', async (t) => {
  const path = newFile(t.testdir({}))
  const device = openLocal(path)
  await device.trim(MiB, 2 * MiB, { fua: true })
  await device.trim(0, 10)
  t.equal(readFileSync(path).length, SIZE)
  t.same(await readFrom(device, MiB - 1, 1), Buffer.from([1]))
  t.same(await readFrom(device, 3 * MiB, 1), Buffer.from([1]))
  t.same(await readFrom(device, 2 * MiB, 4096), Buffer.alloc(4096), 'this file system punches holes')
  await device.close()
})

void t.test('zeros are written where no helper can make them', async (t) => {
  const path = newFile(t.testdir({}))
  for (const zeroCommand of [['false'], ['/no/such/program']]) {
    const device = openLocal(path, { zeroCommand, trimCommand: zeroCommand })
    await device.writeZeroes(100, 2 * MiB)
    t.ok((await readFrom(device, 100, 2 * MiB)).equals(Buffer.alloc(2 * MiB)))
    t.same(await readFrom(device, 99, 1), Buffer.from([1]))
    await device.trim(0, 2 * MiB)
    await device.write(0, [Buffer.alloc(3 * MiB, 1)])
    await device.close()
  }
})

void t.test('a read-only disk refuses to change', async (t) => {
  const path = newFile(t.testdir({}))
  const device = openLocal(path, { readOnly: true })
  await t.rejects(
    answer(() => device.write(0, [Buffer.alloc(1)])),
    { code: 'EPERM', operation: 'write' },
  )
  await t.rejects(
    answer(() => device.trim(0, 1)),
    { code: 'EPERM' },
  )
  await t.rejects(
    answer(() => device.writeZeroes(0, 2 * MiB)),
    { code: 'EPERM' },
  )
  await device.flush()
  await device.close()
  t.ok(readFileSync(path).equals(Buffer.alloc(SIZE, 1)))
})

void t.test('requests that leave the disk are bugs', async (t) => {
  const device = openLocal(newFile(t.testdir({})))
  for (const [offset, length] of [
    [-1, 1],
    [SIZE, 1],
    [SIZE - 1, 2],
    [0.5, 1],
    [Number.MAX_SAFE_INTEGER, 1],
  ] as const) {
    await t.rejects(
      answer(() => device.read(offset, Buffer.alloc(length))),
      { name: 'InvariantError' },
    )
    await t.rejects(
      answer(() => device.write(offset, [Buffer.alloc(length)])),
      { name: 'InvariantError' },
    )
    await t.rejects(
      answer(() => device.trim(offset, length)),
      { name: 'InvariantError' },
    )
    await t.rejects(
      answer(() => device.writeZeroes(offset, length)),
      { name: 'InvariantError' },
    )
  }
  await device.read(SIZE, Buffer.alloc(0))
  await device.close()
})

void t.test('a file that shrank behind our back fails reads instead of reading as zeros', async (t) => {
  const path = newFile(t.testdir({}))
  const device = openLocal(path)
  truncateSync(path, MiB)
  t.same(await readFrom(device, MiB - 4, 4), Buffer.alloc(4, 1))
  await t.rejects(readFrom(device, MiB - 4, 5), { code: 'EIO', operation: 'read' })
  await device.close()
})

void t.test('after one failed flush no flush succeeds any more', async (t) => {
  const path = newFile(t.testdir({}))
  const fd = openSync(path, constants.O_RDWR)
  closeSync(fd)
  // A descriptor that is closed makes fdatasync(2) fail; one that is opened afterwards under its number lets it succeed.
  const broken = new LocalDevice({ ...diskOf(path), fd })
  await t.rejects(
    answer(() => broken.flush()),
    { code: 'EIO', operation: 'flush' },
  )
  t.equal(openSync(path, constants.O_RDWR), fd)
  await t.rejects(
    answer(() => broken.flush()),
    { code: 'EIO' },
    'what the first one lost, the second one cannot bring back',
  )
  await t.rejects(
    answer(() => broken.write(0, [Buffer.alloc(1)], { fua: true })),
    { code: 'EIO' },
  )
  await broken.close()
})

const diskOf = (name: string): LocalDisk => ({
  name,
  fd: -1,
  size: SIZE,
  readOnly: false,
  blockSizes: { minimum: 1, preferred: 4096, maximum: 64 * MiB },
  writesThrough: false,
  trimCommand: [],
  zeroCommand: [],
})

void t.test('errors of the operating system have one meaning each', (t) => {
  const codeOf = (code: string) => deviceErrorFrom(Object.assign(new Error(code), { code }), 'd', 'read', 1, 2).code
  t.same(
    ['EIO', 'EILSEQ', 'ENODATA', 'EREMOTEIO', 'EBADMSG', 'EWHATEVER'].map(codeOf),
    Array.from({ length: 6 }, () => 'EIO'),
  )
  t.same(['ENOSPC', 'EDQUOT', 'EFBIG', 'EROFS', 'ENXIO', 'ETIME', 'EOPNOTSUPP'].map(codeOf), [
    'ENOSPC',
    'ENOSPC',
    'ENOSPC',
    'EPERM',
    'ENODEV',
    'ETIMEDOUT',
    'ENOTSUP',
  ])
  t.equal(deviceErrorFrom('no code at all', 'd', 'write', 1, 2).message, 'd: write of 2 bytes at offset 1 failed: EIO')
  t.end()
})

void t.test('requests of a fast file are done when the call returns, long ones and flushes come later', async (t) => {
  const device = openLocal(newFile(t.testdir({})))
  t.equal(device.write(0, [Buffer.alloc(4096, 2)]), undefined)
  t.equal(device.read(0, Buffer.alloc(4096)), undefined)
  const later = [
    device.write(0, [Buffer.alloc(4096, 3)], { fua: true }),
    device.read(0, Buffer.alloc(2 * MiB)),
    device.write(0, [Buffer.alloc(2 * MiB, 3)]),
    device.flush(),
  ]
  for (const completion of later) t.ok(completion instanceof Promise)
  await Promise.all(later.map((completion) => answer(() => completion)))
  t.same(await readFrom(device, 2 * MiB - 1, 2), Buffer.from([3, 1]))
  await device.close()
})

void t.test('what the operating system refuses at once fails by rejection', async (t) => {
  const path = newFile(t.testdir({}))
  const writeOnly = new LocalDevice({ ...diskOf(path), fd: openSync(path, constants.O_WRONLY) })
  const readOnly = new LocalDevice({ ...diskOf(path), fd: openSync(path, constants.O_RDONLY) })
  await t.rejects(
    answer(() => writeOnly.read(7, Buffer.alloc(4))),
    { code: 'EIO', operation: 'read', offset: 7, length: 4 },
  )
  await t.rejects(
    answer(() => readOnly.write(7, [Buffer.alloc(4)])),
    { code: 'EIO', operation: 'write', offset: 7, length: 4 },
  )
  await writeOnly.close()
  await readOnly.close()
})
