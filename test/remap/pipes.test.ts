/** Data that goes through pipes: to and from main alone, counted as any other, and past nobody who watches or guards. */
import t, { type Test } from 'tap'
import { InjectedDevice } from '../../src/device/injected.js'
import { LockedDevice } from '../../src/device/locked.js'
import { MemoryDevice } from '../../src/device/memory.js'
import type { Replica } from '../../src/remap/replica.js'
import { TrackedDevice } from '../../src/remap/tracked.js'
import { SlowReads } from '../../src/device/slow-reads.js'
import { FaultBook } from '../../src/faults/fault-book.js'
import { Pipe } from '../../src/util/pipe.js'
import { mainBlock, MiB } from '../../src/util/units.js'
import { openTarget, readFrom } from '../support/rig.js'
import { seededRandom } from '../support/random.js'

const BLOCK = 512
const BLOCKS = 64
const SIZE = BLOCKS * BLOCK

/** As a file does it; takes no more than `room` bytes from a pipe. */
class PipedDevice extends MemoryDevice {
  room = Infinity

  readToPipe(offset: number, length: number, pipe: Pipe): boolean {
    return pipe.push(this.bytes.subarray(offset), length) === length
  }

  writeFromPipe(offset: number, length: number, pipe: Pipe): number {
    return pipe.pull(this.bytes.subarray(offset, offset + Math.min(length, this.room)))
  }
}

async function open(t: Test) {
  const main = new PipedDevice(SIZE, 'main')
  const target = await openTarget(main, new PipedDevice(9 * MiB, 'spare'), BLOCK)
  const pipe = Pipe.open()
  if (pipe === undefined) throw new Error('no pipe: is the package koffi installed?')
  t.teardown(() => {
    pipe.close()
  })
  return { main, target, pipe }
}

function pull(pipe: Pipe): Buffer {
  const bytes = Buffer.alloc(pipe.length)
  pipe.pull(bytes)
  return bytes
}

void t.test('what is on main goes through, and counts', async (t) => {
  const { target, pipe } = await open(t)
  const data = seededRandom(t).bytes(8 * BLOCK)
  pipe.push(data, data.length)
  t.equal(target.writeFromPipe(100, data.length, pipe), data.length)
  t.ok((await readFrom(target, 100, data.length)).equals(data))
  t.ok(target.readToPipe(100, data.length, pipe))
  t.ok(pull(pipe).equals(data))
  t.match(target.statistics, { reads: 2, writes: 1, bytesRead: 2 * data.length, bytesWritten: data.length })
  t.throws(() => target.readToPipe(SIZE - 1, 2, pipe))
  t.throws(() => target.writeFromPipe(SIZE - 1, 2, pipe))
})

void t.test('a part that is written counts as that, and not as a write', async (t) => {
  const { main, target, pipe } = await open(t)
  main.room = 3 * BLOCK
  pipe.push(Buffer.alloc(8 * BLOCK, 'new'), 8 * BLOCK)
  t.equal(target.writeFromPipe(0, 8 * BLOCK, pipe), 3 * BLOCK)
  t.equal(pipe.length, 5 * BLOCK)
  t.match(target.statistics, { writes: 0, bytesWritten: 3 * BLOCK })
})

void t.test('what is remapped, held or fenced does not go through, and is not touched', async (t) => {
  const { main, target, pipe } = await open(t)
  const reason = 'operator'
  await target.placement.place([
    { block: mainBlock(10), content: [Buffer.alloc(BLOCK, 'spare')], lostMask: 0n, reason },
  ])
  const before = Buffer.from(main.bytes)
  const refuses = (offset: number, length: number, what: string): void => {
    pipe.clear()
    pipe.push(Buffer.alloc(length, 'x'), length)
    t.equal(target.writeFromPipe(offset, length, pipe), 0, what)
    t.equal(pipe.length, length)
    pipe.clear()
    t.ok(main.bytes.equals(before))
  }
  refuses(8 * BLOCK, 8 * BLOCK, 'a part of it is remapped')
  t.notOk(target.readToPipe(8 * BLOCK, 8 * BLOCK, pipe))
  const release = await target.lock.shared(20, 21)
  refuses(20 * BLOCK, BLOCK, 'somebody reads there')
  t.ok(target.readToPipe(20 * BLOCK, BLOCK, pipe), 'and so may others')
  release()
  t.match(target.statistics, { reads: 1, writes: 0, bytesRead: BLOCK, bytesWritten: 0 })
  target.fence()
  refuses(30 * BLOCK, BLOCK, 'the disks belong to another server')
  t.notOk(target.readToPipe(30 * BLOCK, BLOCK, pipe))
})

void t.test('what lies side by side on the spare is written through a pipe, and read another way', async (t) => {
  const { main, target, pipe } = await open(t)
  const remaps = [10, 11, 12].map((n) => ({ block: mainBlock(n), content: [Buffer.alloc(BLOCK)], lostMask: 0n }))
  await target.placement.place(remaps.map((remap) => ({ ...remap, reason: 'operator' as const })))
  const data = seededRandom(t).bytes(2 * BLOCK)
  pipe.push(data, data.length)
  t.equal(target.writeFromPipe(10 * BLOCK + 100, data.length, pipe), data.length)
  t.ok((await readFrom(target, 10 * BLOCK + 100, data.length)).equals(data))
  t.ok(main.bytes.equals(Buffer.alloc(SIZE)), 'and not to main')
  t.match(target.statistics, { writes: 1, remappedRequests: 2, bytesWritten: data.length })
  // The page would be in the socket until the client takes it, and may belong to another block by then.
  t.notOk(target.readToPipe(10 * BLOCK, BLOCK, pipe))
})

void t.test('those who stand between know of it', async (t) => {
  const { main, pipe } = await open(t)
  const book = new FaultBook()
  pipe.push(Buffer.alloc(BLOCK, 'x'), BLOCK)
  const injected = new InjectedDevice(main, book)
  t.equal(injected.writeFromPipe(), 0, 'faults are not told to a pipe')
  t.notOk(injected.readToPipe())
  const readOnly = new LockedDevice(main, true, () => Promise.resolve())
  t.equal(readOnly.writeFromPipe(0, BLOCK, pipe), 0)
  t.equal(main.bytes.indexOf('x'), -1)
  const replica = { marks: [] as number[][], mark: (...range: number[]) => void replica.marks.push(range) }
  const tracked = new TrackedDevice(main, replica as unknown as Replica)
  t.equal(tracked.writeFromPipe(BLOCK, BLOCK, pipe), BLOCK)
  t.same(replica.marks, [[BLOCK, BLOCK]], 'the replica is older from now on')
  const slow = new SlowReads(new LockedDevice(main, false, () => Promise.resolve()), 1)
  t.ok(slow.readToPipe(BLOCK, BLOCK, pipe))
  t.equal(slow.writeFromPipe(0, BLOCK, pipe), BLOCK)
  t.equal(main.bytes[0], main.bytes[BLOCK])
  t.equal(new SlowReads(new MemoryDevice(SIZE), 1).writeFromPipe(0, BLOCK, pipe), 0, 'a disk without pipes')
})
