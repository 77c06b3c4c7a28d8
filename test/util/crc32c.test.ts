import t from 'tap'
import { crc32c } from '../../src/util/crc32c.js'
import { Random } from '../../src/util/random.js'

void t.test('published check values', (t) => {
  t.equal(crc32c(Buffer.from('123456789')), 0xe3069283)
  // RFC 3720, B.4
  t.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa)
  t.equal(crc32c(Buffer.alloc(32, 0xff)), 0x62a8ab43)
  t.equal(crc32c(Buffer.from(Array.from({ length: 32 }, (_, n) => n))), 0x46dd794e)
  t.equal(crc32c(Buffer.from(Array.from({ length: 32 }, (_, n) => 31 - n))), 0x113fdb5c)
  t.equal(crc32c(Buffer.alloc(0)), 0)
  t.end()
})

void t.test('every length agrees with the bitwise definition', (t) => {
  const bytes = new Random('crc').bytes(70)
  for (let length = 0; length <= bytes.length; length++) {
    const piece = bytes.subarray(0, length)
    t.equal(crc32c(piece), bitwise(piece), `${length} bytes`)
  }
  t.end()
})

function bitwise(bytes: Buffer): number {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  }
  return ~crc >>> 0
}
