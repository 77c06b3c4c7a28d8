/** When long writes stop, and what is left then; that they are carried out is shown by long-requests. */
import t, { type Test } from 'tap'
import { NBD_CMD_WRITE, encodeRequest } from '../../src/nbd/protocol.js'
import type { Express } from '../../src/server/express.js'
import { LongWrites } from '../../src/server/long-writes.js'
import { Pipe } from '../../src/util/pipe.js'
import { KiB } from '../../src/util/units.js'

const LENGTH = 64 * KiB

const request = (cookie: number, length = LENGTH): Buffer =>
  Buffer.concat([
    encodeRequest({ flags: 0, type: NBD_CMD_WRITE, cookie: BigInt(cookie), offset: cookie * length, length }),
    Buffer.alloc(length, String(cookie)),
  ])

/** Takes all, from a socket that has nothing more. */
class Taker {
  canHold = true
  descriptor = -1
  written: bigint[] = []
  isLongWrite = (head: Buffer): boolean => head.readUInt32BE(24) === LENGTH

  writeFrom = (pipe: Pipe, head: Buffer): number => {
    this.written.push(head.readBigUInt64BE(8))
    return pipe.pull(Buffer.alloc(head.readUInt32BE(24)))
  }
}

function open(t: Test): { taker: Taker; long: LongWrites } {
  const pipe = Pipe.open()
  if (pipe === undefined) throw new Error('no pipe: is the package koffi installed?')
  t.teardown(() => {
    pipe.close()
  })
  const taker = new Taker()
  return { taker, long: new LongWrites(taker as unknown as Express, pipe) }
}

void t.test('while replies cannot be kept nothing is written', (t) => {
  const { taker, long } = open(t)
  const bytes = Buffer.concat([request(1), request(2), request(3).subarray(0, 100)])
  t.equal(long.push(bytes).length, 0)
  taker.canHold = false
  t.equal(long.run(), 'full')
  t.same(taker.written, [])
  taker.canHold = true
  t.equal(long.run(), 'waiting')
  t.same(taker.written, [1n, 2n])
  t.ok(long.takeBack().equals(request(3).subarray(0, 100)), 'what is not complete is as it was received')
  t.end()
})

void t.test('others have their turn', (t) => {
  const { taker, long } = open(t)
  let next = 0
  taker.writeFrom = (pipe, head) => {
    taker.written.push(head.readBigUInt64BE(8))
    const written = pipe.pull(Buffer.alloc(LENGTH))
    long.push(request(next++))
    return written
  }
  long.push(request(next++))
  t.equal(long.run(), 'turn')
  t.equal(taker.written.length, 16)
  t.end()
})

void t.test('another request is given back, with what came with it', (t) => {
  const { taker, long } = open(t)
  const other = request(2, 100)
  const left = long.push(Buffer.concat([request(1), other]))
  t.ok(left.equals(other.subarray(28)))
  t.equal(long.run(), 'other')
  t.same(taker.written, [1n])
  t.ok(Buffer.concat([long.takeBack(), left]).equals(other))
  t.end()
})

void t.test('what the device does not take is a request for the rest', (t) => {
  const { taker, long } = open(t)
  taker.writeFrom = (pipe) => pipe.pull(Buffer.alloc(1000))
  const bytes = Buffer.concat([request(1), request(2)])
  long.push(bytes)
  t.equal(long.run(), 'unfit')
  const back = long.takeBack()
  t.equal(back.readBigUInt64BE(16), BigInt(LENGTH + 1000), 'its offset')
  t.equal(back.readUInt32BE(24), LENGTH - 1000, 'and length')
  t.ok(back.subarray(28).equals(bytes.subarray(1028)), 'and what is left of its payload, and the next one')
  t.end()
})
