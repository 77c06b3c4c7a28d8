import type { Socket } from 'node:net'
import { Writable } from 'node:stream'
import t from 'tap'
import { BufferPool } from '../../src/server/buffer-pool.js'
import { ReplyQueue } from '../../src/server/reply-queue.js'
import { Stall } from '../../src/server/stall.js'

/** A socket whose kernel takes nothing until told to. */
function slowSocket() {
  const writes: string[][] = []
  const pending: (() => void)[] = []
  const takeAll = (): void => {
    for (const done of pending.splice(0)) done()
  }
  const stream = new Writable({
    decodeStrings: true,
    writev(chunks, done) {
      writes.push(chunks.map(({ chunk }) => String(chunk)))
      pending.push(done)
    },
    // As the kernel does: a write under way ends with its socket.
    destroy(error, done) {
      takeAll()
      done(error)
    },
  })
  return { socket: stream as unknown as Socket, writes, takeAll }
}

const nothing = () => false
const patient = () => new Stall({ stallTimeoutMs: 1e6, bytesPerMsMin: 1 })
const tick = () => new Promise((resolve) => setImmediate(resolve))

void t.test('the replies of one tick leave in one write and count until the kernel has them', async (t) => {
  const { socket, writes, takeAll } = slowSocket()
  const gone: [number, number][] = []
  const queue = new ReplyQueue(
    socket,
    nothing,
    (requests, bytes) => gone.push([requests, bytes]),
    patient(),
    new BufferPool(),
  )
  queue.push(Buffer.from('one'), 10)
  queue.push(Buffer.from('two'), 20)
  await tick()
  queue.push(Buffer.from('three'), 40)
  await tick()
  t.same(writes, [['one', 'two']])
  t.same(gone, [])
  takeAll()
  await tick()
  t.same(gone, [[2, 30]])
  takeAll()
  await tick()
  t.same(writes, [['one', 'two'], ['three']])
  t.same(gone, [
    [2, 30],
    [1, 40],
  ])
})

void t.test('replies to a lost socket are given back, too', async (t) => {
  const { socket } = slowSocket()
  let bytesGone = 0
  const queue = new ReplyQueue(socket, nothing, (_, bytes) => (bytesGone += bytes), patient(), new BufferPool())
  queue.push(Buffer.from('sent'), 1)
  await tick()
  queue.push(Buffer.from('queued'), 2)
  await tick()
  socket.destroy()
  queue.push(Buffer.from('late'), 4)
  await tick()
  t.equal(bytesGone, 7)
})

void t.test('replies wait for those that become ready in the same turn, but only while there are any', async (t) => {
  const { socket, writes } = slowSocket()
  let expected = 1
  const queue = new ReplyQueue(
    socket,
    () => expected > 0,
    () => undefined,
    patient(),
    new BufferPool(),
  )
  queue.push(Buffer.from('one'), 0)
  await new Promise<void>((resolve) => {
    process.nextTick(resolve)
  })
  t.same(writes, [], 'the device still works on another one')
  queue.push(Buffer.from('two'), 0)
  expected = 0
  await tick()
  t.same(writes, [['one', 'two']])
})

void t.test('a client that takes nothing is stalled until it has taken all', async (t) => {
  const { socket, takeAll } = slowSocket()
  const queue = new ReplyQueue(
    socket,
    nothing,
    () => undefined,
    new Stall({ stallTimeoutMs: 0, bytesPerMsMin: 1000 }),
    new BufferPool(),
  )
  t.notOk(queue.isStalled, 'there is nothing to take')
  queue.push(Buffer.from('one'), 10)
  await tick()
  queue.push(Buffer.from('two'), 1e9)
  await tick()
  while (!queue.isStalled);
  takeAll()
  await tick()
  t.notOk(queue.isStalled, 'the next one has its own time, according to its length')
  takeAll()
  await tick()
  t.notOk(queue.isStalled)
})
