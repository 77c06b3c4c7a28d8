import t from 'tap'
import { chunksLength, copyChunks, isZero, sliceChunks, zeroChunks } from '../../src/util/chunks.js'
import { Random } from '../../src/util/random.js'
import { MiB } from '../../src/util/units.js'

void t.test('slices are what slices of the concatenation are, and views', (t) => {
  const random = new Random('chunks')
  for (let round = 0; round < 300; round++) {
    const chunks = Array.from({ length: random.below(6) }, () => random.bytes(random.below(9)))
    const whole = Buffer.concat(chunks)
    const start = random.below(whole.length + 1)
    const end = random.between(start, whole.length)
    const slices = sliceChunks(chunks, start, end)
    t.ok(Buffer.concat(slices).equals(whole.subarray(start, end)))
    t.equal(chunksLength(slices), end - start)
    t.ok(slices.every((slice) => slice.length > 0 && chunks.some((chunk) => chunk.buffer === slice.buffer)))
  }
  t.end()
})

void t.test('chunks are copied to their place', (t) => {
  const target = Buffer.alloc(6, 0x2e)
  copyChunks([Buffer.from('ab'), Buffer.alloc(0), Buffer.from('c')], target, 2)
  t.equal(target.toString(), '..abc.')
  t.end()
})

void t.test('zero chunks of any length are zeros, and do not copy', (t) => {
  for (const length of [0, 1, MiB - 1, MiB, MiB + 1, 3 * MiB + 7]) {
    const chunks = zeroChunks(length)
    t.equal(chunksLength(chunks), length)
    t.ok(chunks.every(isZero))
  }
  t.equal(zeroChunks(8)[0]!.buffer, zeroChunks(2 * MiB)[1]!.buffer)
  t.end()
})

void t.test('one byte anywhere is not zero', (t) => {
  const buffer = Buffer.alloc(2 * MiB + 5)
  t.ok(isZero(buffer))
  t.ok(isZero(Buffer.alloc(0)))
  for (const at of [0, MiB - 1, MiB, buffer.length - 1]) {
    buffer[at] = 1
    t.notOk(isZero(buffer), `at ${at}`)
    buffer[at] = 0
  }
  t.end()
})
