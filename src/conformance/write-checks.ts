/** Requests that change the content of the export: only on request. */

import * as nbd from '../nbd/protocol.js'
import { KiB, MiB } from '../util/units.js'
import { said, unitOf, type Check } from './check.js'
import type { Examination, Facts, Target } from './examination.js'
import type { RawClient } from './raw-client.js'

export const WRITE_CHECKS: readonly Check[] = [
  { name: 'write', section: 'NBD_CMD_WRITE', level: 'MUST', run: write, lacks: needsWrites() },
  { name: 'write-past-end', section: 'NBD_CMD_WRITE', level: 'MUST', run: writePastEnd, lacks: needsWrites() },
  { name: 'large-write', section: 'Block size constraints', level: 'SHOULD', run: largeWrite, lacks: needsWrites() },
  { name: 'flush', section: 'NBD_CMD_FLUSH', level: 'MUST', run: flush, lacks: needsWrites(nbd.NBD_FLAG_SEND_FLUSH) },
  { name: 'fua', section: 'NBD_CMD_FLAG_FUA', level: 'MUST', run: fua, lacks: needsWrites(nbd.NBD_FLAG_SEND_FUA) },
  { name: 'trim', section: 'NBD_CMD_TRIM', level: 'MUST', run: trim, lacks: needsWrites(nbd.NBD_FLAG_SEND_TRIM) },
  {
    name: 'write-zeroes',
    section: 'NBD_CMD_WRITE_ZEROES',
    level: 'MUST',
    run: writeZeroes,
    lacks: needsWrites(nbd.NBD_FLAG_SEND_WRITE_ZEROES),
  },
  {
    name: 'fast-zero',
    section: 'NBD_CMD_FLAG_FAST_ZERO',
    level: 'MUST',
    run: fastZero,
    lacks: needsWrites(nbd.NBD_FLAG_SEND_WRITE_ZEROES),
  },
  {
    name: 'multi-conn',
    section: 'NBD_FLAG_CAN_MULTI_CONN',
    level: 'MUST',
    run: multiConn,
    lacks: needsWrites(nbd.NBD_FLAG_CAN_MULTI_CONN),
  },
  { name: 'written-before-disc', section: 'NBD_CMD_DISC', level: 'MUST', run: writtenBeforeDisc, lacks: needsWrites() },
  {
    name: 'cut-write',
    section: 'Terminating the transmission phase',
    level: 'MUST',
    run: cutWrite,
    lacks: needsWrites(),
  },
]

function needsWrites(flag = 0): (facts: Facts, target: Target) => string | undefined {
  return ({ flags }, { mayWrite }) => {
    if (!mayWrite) return 'the content of the export may not be changed (--write)'
    if ((flags & nbd.NBD_FLAG_READ_ONLY) !== 0) return 'the export is read-only'
    return (flags & flag) === flag ? undefined : 'not offered'
  }
}

/** Never the same twice. */
let writes = 0
function content(length: number): Buffer {
  const bytes = Buffer.alloc(length)
  writes++
  for (let at = 0; at < length; at += 8) bytes.write(`${writes}:${at}      `, at)
  return bytes
}

const readBack = async (client: RawClient, offset: number, length: number): Promise<Buffer> =>
  (await client.ask(nbd.NBD_CMD_READ, { offset, length })).data

async function write(c: Examination): Promise<void> {
  const client = await c.begin()
  const length = 4 * unitOf(c.facts)
  const end = c.facts.size - (c.facts.size % unitOf(c.facts))
  for (const offset of [0, end - length]) {
    const data = content(length)
    const reply = await client.ask(nbd.NBD_CMD_WRITE, { offset, length }, data)
    c.must(reply.error === 0, `write at ${offset}`, said(reply))
    c.must((await readBack(client, offset, length)).equals(data), 'read what was written', `at ${offset}`)
  }
}

async function writePastEnd(c: Examination): Promise<void> {
  const client = await c.begin()
  const unit = unitOf(c.facts)
  const last = c.facts.size - (c.facts.size % unit) - unit
  const before = await readBack(client, last, unit)
  const past = await client.ask(nbd.NBD_CMD_WRITE, { offset: last, length: 4 * unit }, content(4 * unit))
  c.must(past.error !== 0, 'fail a WRITE that goes past the end', 'it succeeded')
  c.should(past.error === nbd.NBD_ENOSPC, 'answer NBD_ENOSPC to it', `error ${past.error}`)
  c.must(
    (await readBack(client, last, unit)).equals(before),
    'read its payload to the end, and write nothing of it',
    'other bytes, or no answer',
  )
}

async function largeWrite(c: Examination): Promise<void> {
  const client = await c.begin()
  const length = Math.min(c.facts.size - (c.facts.size % unitOf(c.facts)), c.facts.maximum, 32 * MiB)
  const data = content(length)
  const { error } = await client.ask(nbd.NBD_CMD_WRITE, { length }, data)
  c.must(error === 0, `write its maximum, or 32 MiB, at once (${length} bytes)`, `error ${error}`)
  c.must((await readBack(client, 0, length)).equals(data), 'read what was written', 'other bytes')
}

async function flush(c: Examination): Promise<void> {
  const client = await c.begin()
  const { error } = await client.ask(nbd.NBD_CMD_FLUSH)
  c.must(error === 0, 'flush when it offers to', `error ${error}`)
}

async function fua(c: Examination): Promise<void> {
  const client = await c.begin()
  const unit = unitOf(c.facts)
  const { error } = await client.ask(nbd.NBD_CMD_WRITE, { length: unit, flags: nbd.NBD_CMD_FLAG_FUA }, content(unit))
  c.must(error === 0, 'write with FUA', `error ${error}`)
  const reply = await client.ask(nbd.NBD_CMD_READ, { length: unit, flags: nbd.NBD_CMD_FLAG_FUA })
  c.must(reply.error === 0, 'accept FUA on every command, READ too', `error ${reply.error}`)
}

async function trim(c: Examination): Promise<void> {
  const client = await c.begin()
  const unit = unitOf(c.facts)
  const around = content(3 * unit)
  await client.ask(nbd.NBD_CMD_WRITE, { length: 3 * unit }, around)
  const { error } = await client.ask(nbd.NBD_CMD_TRIM, { offset: unit, length: unit })
  c.must(error === 0, 'trim when it offers to', `error ${error}`)
  const after = await readBack(client, 0, 3 * unit)
  const isKept =
    after.subarray(0, unit).equals(around.subarray(0, unit)) &&
    after.subarray(2 * unit).equals(around.subarray(2 * unit))
  c.must(isKept, 'leave the neighbours of what is trimmed alone', 'other bytes')
  const { error: past } = await client.ask(nbd.NBD_CMD_TRIM, { offset: c.facts.size, length: unit })
  c.should(past === nbd.NBD_EINVAL, 'answer NBD_EINVAL to a TRIM past the end', `error ${past}`)
}

async function writeZeroes(c: Examination): Promise<void> {
  const client = await c.begin()
  const unit = unitOf(c.facts)
  const length = Math.min(8 * unit, c.facts.size)
  for (const flags of [0, nbd.NBD_CMD_FLAG_NO_HOLE]) {
    await client.ask(nbd.NBD_CMD_WRITE, { length }, content(length))
    const { error } = await client.ask(nbd.NBD_CMD_WRITE_ZEROES, { length, flags })
    c.must(error === 0, `write zeroes when it offers to (flags ${flags})`, `error ${error}`)
    c.must((await readBack(client, 0, length)).equals(Buffer.alloc(length)), 'read zeros then', 'other bytes')
  }
  const { error } = await client.ask(nbd.NBD_CMD_WRITE_ZEROES, { offset: c.facts.size, length: unit })
  c.should(
    error === nbd.NBD_ENOSPC || error === nbd.NBD_EINVAL,
    'answer NBD_ENOSPC to zeroes past the end',
    `error ${error}`,
  )
}

async function fastZero(c: Examination): Promise<void> {
  const client = await c.begin()
  const unit = unitOf(c.facts)
  const data = content(unit)
  await client.ask(nbd.NBD_CMD_WRITE, { length: unit }, data)
  const { error } = await client.ask(nbd.NBD_CMD_WRITE_ZEROES, { length: unit, flags: nbd.NBD_CMD_FLAG_FAST_ZERO })
  const after = await readBack(client, 0, unit)
  if (c.has(nbd.NBD_FLAG_SEND_FAST_ZERO)) {
    c.must(error === 0 || error === nbd.NBD_ENOTSUP, 'zero at once, or answer NBD_ENOTSUP', `error ${error}`)
    c.must(
      after.equals(error === 0 ? Buffer.alloc(unit) : data),
      'change nothing when it answers NBD_ENOTSUP',
      'other bytes',
    )
  } else {
    c.should(error === nbd.NBD_EINVAL, 'answer NBD_EINVAL to FAST_ZERO when it does not offer it', `error ${error}`)
  }
}

async function multiConn(c: Examination): Promise<void> {
  const [one, two] = [await c.begin(), await c.begin()]
  const unit = unitOf(c.facts)
  for (let n = 0; n < 16; n++) {
    const data = content(unit)
    await one.ask(nbd.NBD_CMD_WRITE, { length: unit }, data)
    if (c.has(nbd.NBD_FLAG_SEND_FLUSH)) await one.ask(nbd.NBD_CMD_FLUSH)
    const seen = await readBack(two, 0, unit)
    if (!seen.equals(data)) {
      c.must(false, 'show what one connection flushed to all others', `write ${n}`)
      return
    }
  }
  c.must(true, 'show what one connection flushed to all others')
}

async function writtenBeforeDisc(c: Examination): Promise<void> {
  const unit = unitOf(c.facts)
  for (let n = 0; n < 8; n++) {
    const client = await c.begin()
    const data = content(unit)
    client.request(nbd.NBD_CMD_WRITE, { length: unit }, data)
    client.request(nbd.NBD_CMD_DISC)
    await client.receiveAll()
    const seen = await readBack(await c.begin(), 0, unit)
    if (!seen.equals(data)) {
      c.must(false, 'carry out a WRITE that comes just before DISC', `try ${n}`)
      return
    }
  }
  c.must(true, 'carry out a WRITE that comes just before DISC')
}

async function cutWrite(c: Examination): Promise<void> {
  const client = await c.begin()
  const length = Math.min(64 * KiB, c.facts.size - (c.facts.size % unitOf(c.facts)))
  client.request(nbd.NBD_CMD_WRITE, { length }, content(length).subarray(0, length - 1))
  client.socket.end()
  await client.receiveAll()
  c.must(await c.lives(await c.begin()), 'go on serving when a client leaves in the middle of a payload', 'it did not')
}
