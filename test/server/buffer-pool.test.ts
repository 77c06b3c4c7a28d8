import t from 'tap'
import { BufferPool } from '../../src/server/buffer-pool.js'
import { KiB, MiB } from '../../src/util/units.js'

void t.test('a buffer that was released is used again, for a length of about the same size', (t) => {
  const pool = new BufferPool()
  const first = pool.allocate(256 * KiB + 28)
  t.equal(first.length, 256 * KiB + 28)
  const second = pool.allocate(256 * KiB + 28)
  t.not(second.buffer, first.buffer, 'not while it is in use')
  pool.release(first)
  const third = pool.allocate(256 * KiB + 16)
  t.equal(third.buffer, first.buffer)
  t.equal(third.length, 256 * KiB + 16)
  t.not(pool.allocate(MiB).buffer, second.buffer)
  t.end()
})

void t.test('buffers from elsewhere, and buffers released twice, are never handed out', (t) => {
  const pool = new BufferPool()
  const foreign = Buffer.allocUnsafeSlow(64 * KiB)
  pool.release(foreign)
  t.not(pool.allocate(64 * KiB).buffer, foreign.buffer)
  const own = pool.allocate(64 * KiB)
  pool.release(own)
  pool.release(own)
  const [a, b] = [pool.allocate(64 * KiB), pool.allocate(64 * KiB)]
  t.equal(a.buffer, own.buffer)
  t.not(b.buffer, own.buffer)
  t.end()
})

void t.test('what lies idle is bounded', (t) => {
  const pool = new BufferPool()
  const huge = pool.allocate(64 * MiB)
  pool.release(huge)
  t.not(pool.allocate(64 * MiB).buffer, huge.buffer, 'the largest are not kept')
  const buffers = Array.from({ length: 17 }, () => pool.allocate(MiB))
  for (const buffer of buffers) pool.release(buffer)
  const kept = Array.from({ length: 17 }, () => pool.allocate(MiB).buffer)
  const again = kept.filter((memory) => buffers.some(({ buffer }) => buffer === memory)).length
  t.equal(again, 16, 'and they are not dropped for one too many')
  const other = pool.allocate(8 * MiB)
  for (const buffer of buffers) pool.release(buffer)
  pool.release(other)
  t.equal(pool.allocate(8 * MiB).buffer, other.buffer, 'other sizes make room')
  t.end()
})
