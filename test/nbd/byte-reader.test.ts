import t from 'tap'
import { ByteReader } from '../../src/nbd/byte-reader.js'
import { InvariantError } from '../../src/util/assert.js'

const message = Buffer.from('00112233445566778899aabbccddeeff', 'hex')

void t.test('pieces are the same wherever the stream was cut', (t) => {
  for (let first = 0; first <= message.length; first++) {
    for (let second = first; second <= message.length; second++) {
      const reader = new ByteReader()
      reader.push(message.subarray(0, first))
      reader.push(message.subarray(first, second))
      reader.push(message.subarray(second))
      const where = `cut at ${first} and ${second}`
      if (reader.peekUInt32() !== 0x00112233) t.fail(`${where}: looked at`)
      const header = reader.consume(5).toString('hex')
      reader.skip(3)
      if (reader.peekUInt32() !== 0x8899aabb) t.fail(`${where}: looked at what is not the beginning`)
      const payload = Buffer.concat(reader.consumeChunks(6)).toString('hex')
      if (header !== '0011223344' || payload !== '8899aabbccdd') t.fail(where, { header, payload })
      if (reader.available !== 2 || reader.consume(2).toString('hex') !== 'eeff') t.fail(where)
      if (reader.chunkCount !== 0) t.fail(`${where}: chunks left behind`)
    }
  }
  t.pass('all cuts')
  t.end()
})

void t.test('bytes that come one by one are all there', (t) => {
  const reader = new ByteReader()
  for (const [i, byte] of message.entries()) {
    t.equal(reader.available, i)
    reader.push(Buffer.from([byte]))
  }
  t.same(reader.consume(message.length), message)
  t.equal(reader.available, 0)
  t.end()
})

void t.test('a piece inside one chunk is a view of it', (t) => {
  const reader = new ByteReader()
  reader.push(message)
  const piece = reader.consume(4)
  t.equal(piece.buffer, message.buffer)
  t.equal(piece.byteOffset, message.byteOffset)
  const [rest] = reader.consumeChunks(12)
  t.equal(rest?.byteOffset, message.byteOffset + 4)
  t.end()
})

void t.test('consumeChunks gives what arrived, cut at both ends', (t) => {
  const reader = new ByteReader()
  reader.push(Buffer.from('abc'))
  reader.push(Buffer.from('defg'))
  reader.push(Buffer.from('hij'))
  reader.skip(1)
  t.same(reader.consumeChunks(8).map(String), ['bc', 'defg', 'hi'])
  t.equal(reader.available, 1)
  t.same(reader.consumeChunks(0), [])
  t.equal(reader.consume(0).length, 0)
  t.end()
})

void t.test('tiny chunks are gathered and pieces taken before stay as they were', (t) => {
  const reader = new ByteReader()
  const taken: { piece: Buffer; expected: string }[] = []
  let next = 0
  let due = 0
  const take = (length: number) => {
    const expected = Array.from({ length }, (_, i) => ((due + i) % 251).toString(16).padStart(2, '0')).join('')
    due += length
    taken.push({ piece: reader.consume(length), expected })
  }
  let most = 0
  for (let i = 0; i < 200_000; i++) {
    reader.push(Buffer.from([next++ % 251]))
    if (i % 1000 === 999) take(700)
    most = Math.max(most, reader.chunkCount)
  }
  take(reader.available)
  t.ok(most < 30, `at most ${most} list entries for ${due} bytes`)
  for (const { piece, expected } of taken) if (piece.toString('hex') !== expected) t.fail('a piece changed')
  t.equal(due, 200_000)
  t.end()
})

void t.test('large chunks after tiny ones keep their place', (t) => {
  const reader = new ByteReader()
  const all: Buffer[] = []
  for (let i = 0; i < 50; i++) {
    const chunk = Buffer.alloc(i % 5 === 0 ? 3000 : 7, i)
    all.push(chunk)
    reader.push(chunk)
  }
  const expected = Buffer.concat(all)
  t.ok(reader.consume(expected.length).equals(expected))
  t.end()
})

void t.test('consuming more than is there is a bug', (t) => {
  const reader = new ByteReader()
  reader.push(Buffer.from('ab'))
  t.throws(() => reader.consume(3), InvariantError)
  t.throws(() => reader.consumeChunks(3), InvariantError)
  t.throws(() => {
    reader.skip(3)
  }, InvariantError)
  t.equal(reader.consume(2).toString(), 'ab')
  t.end()
})
