/** Disks that hang, in memory: a request is answered when the test says so. */
import t, { type Test } from 'tap'
import { DeadlineDevice, type DeadlineOptions, type RequestRange } from '../../src/device/deadline.js'
import { DeviceError, type Completion } from '../../src/device/device.js'
import { MemoryDevice, type Call } from '../support/memory-device.js'

const TIMEOUT_MS = 60

interface Hanging {
  readonly disk: MemoryDevice
  readonly device: DeadlineDevice
  /** What was late, and whether that was the news that the disk hangs. */
  readonly late: [string, boolean][]
  readonly log: string[]
  /** From now on these requests wait. */
  readonly hang: (which?: (call: Call) => boolean) => void
  /** Answers all that wait, with a failure if one is given. */
  readonly wake: (failure?: Error) => Promise<void>
}

function hanging(t: Test, options: Partial<DeadlineOptions> = {}): Hanging {
  const disk = new MemoryDevice(1024 * 1024)
  const late: Hanging['late'] = []
  const log: string[] = []
  let hangs: (call: Call) => boolean = () => false
  let waiting: ((failure?: Error) => void)[] = []
  disk.before = (call) => {
    if (!hangs(call)) return
    return new Promise((resolve, reject) => {
      waiting.push((failure) => {
        if (failure) reject(failure)
        else resolve()
      })
    })
  }
  const device = new DeadlineDevice(disk, {
    timeoutMs: TIMEOUT_MS,
    onTimeout: 'eio',
    onLate: ({ operation }: RequestRange, isNews) => late.push([operation, isNews]),
    onAlive: () => log.push('alive'),
    onLateRead: ({ offset, length }) => log.push(`late read ${offset} ${length}`),
    ...options,
  })
  const wake = async (failure?: Error): Promise<void> => {
    hangs = () => false
    for (const answer of waiting.splice(0)) answer(failure)
    while (device.late > 0) await new Promise((resolve) => setImmediate(resolve))
  }
  t.teardown(async () => {
    await wake()
    await device.close()
  })
  const hang = (which: (call: Call) => boolean = () => true): void => {
    waiting = []
    hangs = which
  }
  return { disk, device, late, log, hang, wake }
}

const bytes = (value: number): Buffer => Buffer.alloc(4096, value)
const fill = (value: number, length = 4096): Buffer[] => [Buffer.alloc(length, value)]
const isLate = { name: 'DeadlineError', code: 'ETIMEDOUT' }
const rejects = (t: Test, request: Completion, what = 'it is late'): Promise<unknown> =>
  t.rejects(Promise.resolve(request), isLate, what)

void t.test('a disk that answers is passed through, failures and all', async (t) => {
  const { disk, device, late } = hanging(t)
  await device.write(100, [...fill(1, 10), ...fill(2, 10)])
  const into = Buffer.alloc(20)
  await device.read(100, into)
  t.same(into, Buffer.concat([...fill(1, 10), ...fill(2, 10)]))
  await device.writeZeroes(100, 10, { noHole: true })
  await device.trim(0, 4096)
  await device.flush()
  t.same(
    disk.calls.map(({ operation }) => operation),
    ['write', 'read', 'write-zeroes', 'trim', 'flush'],
  )
  t.same(disk.calls[2]?.options, { noHole: true })
  disk.before = ({ operation, offset, length }) => {
    throw new DeviceError('EIO', 'memory', operation, offset, length)
  }
  await t.rejects(device.read(0, into), { code: 'EIO', name: 'DeviceError' })
  t.same(late, [])
})

void t.test('a read that is late fails, and its answer reaches no memory of the caller', async (t) => {
  const { device, late, log, hang, wake } = hanging(t)
  await device.write(0, fill(1))
  hang()
  const into = Buffer.alloc(4096, 9)
  await rejects(t, device.read(0, into))
  t.equal(device.late, 1)
  t.same(late, [['read', true]])
  t.ok(device.hangs)
  await wake()
  t.same(into, Buffer.alloc(4096, 9))
  t.notOk(device.hangs)
  t.same(log.sort(), ['alive', 'late read 0 4096'])
})

void t.test('what a late write may still change cannot be changed until it is answered', async (t) => {
  const { disk, device, hang, wake } = hanging(t)
  hang(({ operation, offset }) => operation === 'write' && offset === 8192)
  await rejects(t, device.write(8192, fill(1)))
  const sent = disk.calls.length
  await rejects(t, device.write(4096, fill(2, 4097)), 'the last byte is the first of the late write')
  await rejects(t, device.writeZeroes(8192 + 4095, 1))
  await rejects(t, device.trim(0, 65_536))
  t.equal(disk.calls.length, sent, 'none of them was sent')
  await device.write(4096, fill(3))
  await device.write(8192 + 4096, fill(3))
  await device.read(8192, Buffer.alloc(4096))
  await wake()
  t.same(disk.data.subarray(8192, 8192 + 4096), bytes(1), 'it did land')
  await device.write(8192, fill(4))
  t.same(disk.data.subarray(8192, 8192 + 4096), bytes(4), 'and a newer one is not undone')
})

void t.test('a disk whose other requests are answered does not hang', async (t) => {
  const { device, late, log, hang, wake } = hanging(t)
  hang(({ offset }) => offset === 0)
  const first = device.read(0, Buffer.alloc(512))
  const others = (async () => {
    for (let n = 0; n < 4; n++) await device.read(4096, Buffer.alloc(512))
  })()
  await rejects(t, first)
  await others
  t.same(late, [['read', false]])
  t.notOk(device.hangs)
  await wake()
  t.same(log, ['late read 0 512'])
})

void t.test('a flush that is late does not hide what it fails with', async (t) => {
  const { disk, device, hang, wake } = hanging(t)
  await device.write(0, fill(1))
  hang(({ operation }) => operation === 'flush')
  await rejects(t, device.flush())
  await wake(new DeviceError('EIO', 'memory', 'flush', 0, 0))
  await t.rejects(device.flush(), { code: 'EIO' }, 'the next one says it')
  await device.flush()
  t.equal(disk.calls.filter(({ operation }) => operation === 'flush').length, 3)
})

void t.test('a disk that hangs is not flushed when nothing was written since the last flush', async (t) => {
  const { device, hang, wake } = hanging(t)
  await device.write(0, fill(1))
  await device.flush()
  hang()
  await rejects(t, device.write(0, fill(2)))
  await device.flush()
  await wake()
  await device.write(0, fill(3))
  hang()
  await rejects(t, device.read(0, Buffer.alloc(512)))
  await rejects(t, device.flush(), 'what was acknowledged is not durable')
  await rejects(t, device.flush(), 'still not')
  await wake()
  await device.flush()
})

void t.test('no more requests than allowed hold the disk, and those that never left are not late', async (t) => {
  const { disk, device, late, hang, wake } = hanging(t, { inFlightMax: 2 })
  hang()
  const requests = [1, 2, 3, 4].map((n) => device.write(n * 4096, fill(n)))
  for (const request of requests) await rejects(t, request)
  t.equal(disk.calls.length, 2)
  t.equal(device.late, 2)
  t.equal(late.length, 2)
  const failed = Promise.resolve(device.read(0, Buffer.alloc(512))).catch((error: unknown) => error)
  const first = await Promise.race([failed, new Promise((resolve) => setImmediate(resolve))])
  t.match(first, isLate, 'with nothing left to be had, a request fails at once')
  await wake()
  await device.write(3 * 4096, fill(7))
  t.same(disk.data.subarray(3 * 4096, 4 * 4096), bytes(7))
})

void t.test('requests that wait are sent when others are answered', async (t) => {
  const { disk, device } = hanging(t, { inFlightMax: 2 })
  disk.before = () => new Promise((resolve) => setImmediate(resolve))
  await Promise.all([1, 2, 3, 4, 5].map((n) => device.write(n * 4096, fill(n))))
  t.equal(disk.calls.length, 5)
  t.same(disk.data.subarray(5 * 4096, 6 * 4096), bytes(5))
})

void t.test('a thread that slept hears the answers that came meanwhile before it gives up', async (t) => {
  const { disk, device, late } = hanging(t)
  disk.before = () => new Promise((resolve) => setTimeout(resolve, TIMEOUT_MS / 2))
  const request = device.read(0, Buffer.alloc(512))
  const until = performance.now() + 3 * TIMEOUT_MS
  while (performance.now() < until);
  await request
  t.same(late, [])
})

void t.test('close waits for late answers, but not for ever', async (t) => {
  for (const wakes of [true, false]) {
    const { disk, device, hang, wake } = hanging(t)
    let closed = 0
    disk.close = () => {
      closed++
      return Promise.resolve()
    }
    hang()
    await rejects(t, device.write(0, fill(1)))
    const closing = device.close()
    if (wakes) {
      await wake()
      await closing
      t.equal(closed, 1)
    } else {
      await rejects(t, closing)
      t.equal(closed, 0, 'a disk that still works on a request stays open')
    }
  }
})
