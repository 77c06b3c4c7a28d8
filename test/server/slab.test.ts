import t from 'tap'
import { BufferPool } from '../../src/server/buffer-pool.js'
import { Slab } from '../../src/server/slab.js'
import { KiB } from '../../src/util/units.js'

void t.test('buffers have their length and never overlap', (t) => {
  const slab = new Slab(new BufferPool())
  const lengths = [16, 4112, 16 * KiB, 16 * KiB + 1, 1, 16 * KiB, 16 * KiB, 16 * KiB, 16 * KiB, 70_000, 0]
  const buffers = lengths.map((length, i) => slab.allocate(length).fill(i + 1))
  for (const [i, buffer] of buffers.entries()) {
    t.equal(buffer.length, lengths[i])
    t.ok(buffer.every((byte) => byte === i + 1))
  }
  t.equal(buffers[0]?.buffer, buffers[1]?.buffer, 'small ones share memory')
  t.not(buffers[2]?.buffer, buffers[3]?.buffer, 'large ones do not')
  t.end()
})
