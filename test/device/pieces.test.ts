import t from 'tap'
import { cutChunks, cutRange } from '../../src/device/pieces.js'

void t.test('ranges are cut at the maximum', (t) => {
  t.same([...cutRange(5, 0, 10)], [])
  t.same([...cutRange(5, 10, 10)], [{ offset: 5, length: 10 }])
  t.same(
    [...cutRange(2 ** 40, 21, 10)],
    [
      { offset: 2 ** 40, length: 10 },
      { offset: 2 ** 40 + 10, length: 10 },
      { offset: 2 ** 40 + 20, length: 1 },
    ],
  )
  t.end()
})

void t.test('chunks of any shape are cut at the maximum and stay in order', (t) => {
  const data = Buffer.from('0123456789abcdefghijklmnopqrstuvwxyz')
  for (let maximum = 1; maximum <= 40; maximum++) {
    for (const sizes of [[36], [1, 35], [10, 0, 10, 16], [5, 5, 5, 5, 16], Array.from({ length: 36 }, () => 1)]) {
      let at = 0
      const chunks = sizes.map((size) => data.subarray(at, (at += size)))
      const pieces = cutChunks(1000, chunks, maximum)
      const shape = pieces.map(({ offset, length }) => ({ offset, length }))
      t.same(shape, [...cutRange(1000, 36, maximum)])
      t.ok(pieces.every((piece) => Buffer.concat(piece.chunks).length === piece.length))
      t.equal(Buffer.concat(pieces.flatMap((piece) => piece.chunks)).toString(), data.toString())
    }
  }
  t.same(cutChunks(0, [], 10), [])
  t.same(cutChunks(0, [Buffer.alloc(0)], 10), [])
  t.end()
})
