/** Requests that change nothing, and their replies. */

import * as nbd from '../nbd/protocol.js'
import { KiB, MiB } from '../util/units.js'
import { needsStructured, said, unitOf, type Check } from './check.js'
import type { Examination, Facts } from './examination.js'
import type { GoOptions, Reply } from './raw-client.js'

/** What the protocol has. */
const ERRORS: readonly number[] = [
  nbd.NBD_EPERM,
  nbd.NBD_EIO,
  nbd.NBD_ENOMEM,
  nbd.NBD_EINVAL,
  nbd.NBD_ENOSPC,
  nbd.NBD_EOVERFLOW,
  nbd.NBD_ENOTSUP,
  nbd.NBD_ESHUTDOWN,
]

export const REQUEST_CHECKS: readonly Check[] = [
  { name: 'read', section: 'NBD_CMD_READ', level: 'MUST', run: read },
  {
    name: 'read-structured',
    section: 'Structured replies',
    level: 'MUST',
    run: readStructured,
    lacks: needsStructured,
  },
  { name: 'do-not-fragment', section: 'NBD_CMD_FLAG_DF', level: 'MUST', run: doNotFragment, lacks: needsStructured },
  { name: 'out-of-range', section: 'Error values', level: 'SHOULD', run: outOfRange },
  { name: 'pipelined', section: 'Ordering of messages and writes', level: 'MUST', run: pipelined },
  { name: 'split-request', section: 'Transmission', level: 'MUST', run: splitRequest },
  { name: 'unknown-command', section: 'Request types', level: 'SHOULD', run: unknownCommand },
  { name: 'unknown-flag', section: 'Command flags', level: 'SHOULD', run: unknownFlag },
  { name: 'length-zero', section: 'Request types', level: 'SHOULD', run: lengthZero },
  { name: 'unaligned', section: 'Block size constraints', level: 'SHOULD', run: unaligned },
  { name: 'large-read', section: 'Block size constraints', level: 'SHOULD', run: largeRead },
  { name: 'block-status', section: 'NBD_CMD_BLOCK_STATUS', level: 'MUST', run: blockStatus, lacks: needsAllocation },
  { name: 'read-only', section: 'NBD_FLAG_READ_ONLY', level: 'MUST', run: readOnly, lacks: needsReadOnly },
  {
    name: 'extended-headers',
    section: 'NBD_OPT_EXTENDED_HEADERS',
    level: 'MUST',
    run: extendedHeaders,
    lacks: needsExtended,
  },
  { name: 'disconnect', section: 'NBD_CMD_DISC', level: 'MUST', run: disconnect },
  { name: 'hard-disconnect', section: 'Terminating the transmission phase', level: 'MUST', run: hardDisconnect },
]

function needsAllocation({ contexts }: Facts): string | undefined {
  return contexts.includes(nbd.BASE_ALLOCATION) ? undefined : `no ${nbd.BASE_ALLOCATION}`
}

function needsReadOnly({ flags }: Facts): string | undefined {
  return (flags & nbd.NBD_FLAG_READ_ONLY) !== 0 ? undefined : 'the export can be written'
}

function needsExtended({ extended }: Facts): string | undefined {
  return extended ? undefined : 'no extended headers'
}

const stylesOf = ({ structured }: Facts): Omit<GoOptions, 'name'>[] => (structured ? [{}, { structured: true }] : [{}])

async function read(c: Examination): Promise<void> {
  const client = await c.begin()
  const length = Math.min(c.facts.size, 64 * KiB)
  const first = await client.ask(nbd.NBD_CMD_READ, { cookie: 0xfedc_ba98_7654_3210n, length })
  c.must(
    first.magic === nbd.NBD_SIMPLE_REPLY_MAGIC,
    'send simple replies where nothing else was negotiated',
    `magic ${first.magic.toString(16)}`,
  )
  c.must(first.cookie === 0xfedc_ba98_7654_3210n, 'return the cookie as it is', first.cookie.toString(16))
  c.must(first.error === 0 && first.data.length === length, 'read the beginning of the export', said(first))
  const unit = unitOf(c.facts)
  const last = await client.ask(nbd.NBD_CMD_READ, { offset: c.facts.size - unit, length: unit })
  c.must(last.error === 0 && last.data.length === unit, 'read the end of the export', said(last))
  c.must(await c.lives(client), 'understand the next request then', 'it did not')
}

async function readStructured(c: Examination): Promise<void> {
  const length = Math.min(c.facts.size, 256 * KiB)
  const simple = await (await c.begin()).ask(nbd.NBD_CMD_READ, { length })
  const client = await c.begin({ structured: true })
  const reply = await client.ask(nbd.NBD_CMD_READ, { cookie: 7n, length })
  c.must(
    reply.magic === nbd.NBD_STRUCTURED_REPLY_MAGIC,
    'answer READ in chunks once structured replies were negotiated',
    `magic ${reply.magic.toString(16)}`,
  )
  c.must(
    reply.chunks.every(({ cookie }) => cookie === 7n),
    'return the cookie in each chunk',
  )
  const { covered, content } = assemble(reply, length)
  c.must(covered === 'whole', 'cover the request once and wholly, and nothing else, with its chunks', covered)
  c.must(content.equals(simple.data), 'read the same in chunks as in simple replies', 'other bytes')
  const failed = await client.ask(nbd.NBD_CMD_READ, { offset: c.facts.size, length: unitOf(c.facts) })
  c.must(
    failed.magic === nbd.NBD_STRUCTURED_REPLY_MAGIC && failed.error !== 0,
    'answer a READ that fails by an error chunk',
    said(failed),
  )
}

/** Puts the chunks of a READ from offset 0 where they belong. */
function assemble({ chunks }: Reply, length: number): { covered: string; content: Buffer } {
  const content = Buffer.alloc(length)
  const pieces: [start: number, end: number][] = []
  for (const { type, payload } of chunks) {
    if (type === nbd.NBD_REPLY_TYPE_OFFSET_DATA) {
      const start = nbd.decodeDataOffset(payload)
      payload.copy(content, start, nbd.DATA_OFFSET_LENGTH)
      pieces.push([start, start + payload.length - nbd.DATA_OFFSET_LENGTH])
    } else if (type === nbd.NBD_REPLY_TYPE_OFFSET_HOLE) {
      const hole = nbd.decodeHole(payload)
      pieces.push([hole.offset, hole.offset + hole.length])
    }
  }
  pieces.sort(([a], [b]) => a - b)
  let end = 0
  for (const [start, next] of pieces) {
    if (start !== end || next <= start)
      return { covered: `a chunk from ${start} to ${next} after ${end} bytes`, content }
    end = next
  }
  return { covered: end === length ? 'whole' : `${end} of ${length} bytes`, content }
}

async function doNotFragment(c: Examination): Promise<void> {
  const client = await c.begin({ structured: true })
  const length = Math.min(c.facts.size, 64 * KiB)
  const reply = await client.ask(nbd.NBD_CMD_READ, { length, flags: nbd.NBD_CMD_FLAG_DF })
  const content = reply.chunks.filter(
    ({ type }) => type === nbd.NBD_REPLY_TYPE_OFFSET_DATA || type === nbd.NBD_REPLY_TYPE_OFFSET_HOLE,
  )
  c.must(
    reply.error === 0 && content.length === 1,
    'read 64 KiB in one chunk with DF',
    `${said(reply)} in ${content.length} chunks`,
  )
}

async function outOfRange(c: Examination): Promise<void> {
  const unit = unitOf(c.facts)
  for (const style of stylesOf(c.facts)) {
    const client = await c.begin(style)
    const far = 2 ** 53 - (2 ** 53 % unit) - unit
    for (const offset of [c.facts.size, c.facts.size - (c.facts.size % unit) + 4 * unit, far]) {
      const { error } = await client.ask(nbd.NBD_CMD_READ, { offset, length: unit })
      c.must(error !== 0, `fail a READ at ${offset}, past the end`, 'it succeeded')
      c.should(error === nbd.NBD_EINVAL, 'answer NBD_EINVAL past the end', `error ${error}`)
      c.must(error === 0 || ERRORS.includes(error), 'use the error values of the protocol', `error ${error}`)
    }
    c.should(await c.lives(client), 'understand the next request then', 'it did not')
  }
}

async function pipelined(c: Examination): Promise<void> {
  const client = await c.begin()
  const unit = unitOf(c.facts)
  const count = 64
  for (let n = 0; n < count; n++) client.request(nbd.NBD_CMD_READ, { cookie: BigInt(n), length: unit })
  const cookies = new Set<bigint>()
  for (let n = 0; n < count; n++) cookies.add((await client.receiveReply(unit)).cookie)
  c.must(cookies.size === count, `answer each of ${count} requests in flight once`, `${cookies.size} cookies`)
}

async function splitRequest(c: Examination): Promise<void> {
  const client = await c.begin()
  const unit = unitOf(c.facts)
  for (const byte of nbd.encodeRequest({ flags: 0, type: nbd.NBD_CMD_READ, cookie: 5n, offset: 0, length: unit })) {
    client.send(Buffer.of(byte))
    await new Promise((resolve) => setImmediate(resolve))
  }
  const { cookie, error } = await client.receiveReply(unit)
  c.must(cookie === 5n && error === 0, 'understand a request that arrives byte by byte', `error ${error}`)
}

async function unknownCommand(c: Examination): Promise<void> {
  for (const style of stylesOf(c.facts)) {
    const client = await c.begin(style)
    for (const type of [9, 0xffff]) {
      const { error } = await client.ask(type, { length: unitOf(c.facts) })
      c.should(error === nbd.NBD_EINVAL, `answer NBD_EINVAL to command ${type}, which does not exist`, `error ${error}`)
    }
    c.should(await c.lives(client), 'understand the next request then', 'it did not')
  }
}

async function unknownFlag(c: Examination): Promise<void> {
  const client = await c.begin()
  for (const bit of [6, 9, 15]) {
    const { error } = await client.ask(nbd.NBD_CMD_READ, { length: unitOf(c.facts), flags: 1 << bit })
    c.should(
      error === nbd.NBD_EINVAL,
      `answer NBD_EINVAL to a command flag that does not exist (bit ${bit})`,
      `error ${error}`,
    )
  }
  c.should(await c.lives(client), 'understand the next request then', 'it did not')
}

async function lengthZero(c: Examination): Promise<void> {
  for (const style of stylesOf(c.facts)) {
    const client = await c.begin(style)
    const { error } = await client.ask(nbd.NBD_CMD_READ, { length: 0 })
    c.should(error === 0 || ERRORS.includes(error), 'answer a READ of no bytes', `error ${error}`)
    c.should(await c.lives(client), 'not disconnect then', 'it did')
  }
}

async function unaligned(c: Examination): Promise<void> {
  const client = await c.begin()
  if (c.facts.minimum > 1) {
    const { error } = await client.ask(nbd.NBD_CMD_READ, { offset: 1, length: c.facts.minimum })
    c.should(
      error === nbd.NBD_EINVAL || error === 0,
      'answer NBD_EINVAL to what is not aligned to its minimum, or serve it',
      `error ${error}`,
    )
  } else {
    const whole = await client.ask(nbd.NBD_CMD_READ, { length: 1024 })
    const part = await client.ask(nbd.NBD_CMD_READ, { offset: 509, length: 7 })
    c.must(
      part.error === 0 && part.data.equals(whole.data.subarray(509, 516)),
      'read any bytes when its minimum is 1',
      said(part),
    )
  }
  c.should(await c.lives(client), 'understand the next request then', 'it did not')
}

async function largeRead(c: Examination): Promise<void> {
  const client = await c.begin()
  const length = Math.min(c.facts.size - (c.facts.size % unitOf(c.facts)), c.facts.maximum, 32 * MiB)
  const { error, data } = await client.ask(nbd.NBD_CMD_READ, { length })
  c.must(
    error === 0 && data.length === length,
    `read its maximum, or 32 MiB, at once (${length} bytes)`,
    `error ${error}`,
  )
}

async function blockStatus(c: Examination): Promise<void> {
  const client = await c.begin({ structured: true, contexts: [nbd.BASE_ALLOCATION] })
  const length = Math.min(c.facts.size - (c.facts.size % c.facts.minimum), 128 * MiB)
  for (const flags of [0, nbd.NBD_CMD_FLAG_REQ_ONE]) {
    const { chunks, error } = await client.ask(nbd.NBD_CMD_BLOCK_STATUS, { length, flags })
    c.must(
      error === 0 && chunks.length === 1,
      'answer BLOCK_STATUS by one chunk for each context',
      `error ${error}, ${chunks.length} chunks`,
    )
    const [chunk] = chunks
    if (error !== 0 || chunk === undefined) return
    const { extents } = nbd.decodeBlockStatus(chunk.payload)
    const lengths = extents.map((extent) => extent.length)
    const sum = lengths.reduce((total, each) => total + each, 0)
    c.must(Math.min(...lengths) > 0, 'have no empty extents', lengths.join(' '))
    c.must(sum <= c.facts.size, 'keep extents inside the export', `${sum} bytes`)
    c.must(
      sum - (lengths.at(-1) ?? 0) < length,
      'end with the extent that reaches the end of the request',
      `${sum} of ${length} bytes`,
    )
    if (flags !== 0)
      c.must(
        extents.length === 1 && sum <= length,
        'send exactly one extent, not longer than the request, with REQ_ONE',
        lengths.join(' '),
      )
    await zerosReadAsZeros(c, extents)
  }
  const none = await (await c.begin({ structured: true })).ask(nbd.NBD_CMD_BLOCK_STATUS, { length: unitOf(c.facts) })
  c.should(
    none.error === nbd.NBD_EINVAL,
    'answer NBD_EINVAL to BLOCK_STATUS when no context was selected',
    `error ${none.error}`,
  )
}

async function zerosReadAsZeros(c: Examination, extents: readonly nbd.Extent[]): Promise<void> {
  const client = await c.begin()
  let offset = 0
  for (const { length, flags } of extents.slice(0, 16)) {
    if ((flags & nbd.NBD_STATE_ZERO) !== 0) {
      const size = Math.min(length, 64 * KiB)
      const { data } = await client.ask(nbd.NBD_CMD_READ, { offset, length: size })
      c.must(data.equals(Buffer.alloc(size)), 'read zeros where it says NBD_STATE_ZERO', `at ${offset}`)
    }
    offset += length
  }
}

async function readOnly(c: Examination): Promise<void> {
  const client = await c.begin()
  const unit = unitOf(c.facts)
  for (const [type, payload] of [
    [nbd.NBD_CMD_WRITE, Buffer.alloc(unit)],
    [nbd.NBD_CMD_TRIM, ''],
    [nbd.NBD_CMD_WRITE_ZEROES, ''],
  ] as const) {
    const { error } = await client.ask(type, { length: unit }, payload)
    c.must(error !== 0, `fail command ${type} on a read-only export`, 'it succeeded')
    c.should(error === nbd.NBD_EPERM, 'answer NBD_EPERM there', `error ${error}`)
  }
  c.must(await c.lives(client), 'understand the next request then', 'it did not')
}

async function extendedHeaders(c: Examination): Promise<void> {
  const client = await c.begin({ extended: true })
  const reply = await client.ask(nbd.NBD_CMD_READ, { cookie: 3n, length: unitOf(c.facts) })
  c.must(
    reply.magic === nbd.NBD_EXTENDED_REPLY_MAGIC && reply.error === 0,
    'send extended chunks once they were negotiated',
    `magic ${reply.magic.toString(16)}, error ${reply.error}`,
  )
  const options = await c.greeted()
  await options.option(nbd.NBD_OPT_EXTENDED_HEADERS)
  const structured = await options.option(nbd.NBD_OPT_STRUCTURED_REPLY)
  c.should(
    structured.at(-1)?.type === nbd.NBD_REP_ERR_EXT_HEADER_REQD || structured.at(-1)?.type === nbd.NBD_REP_ACK,
    'refuse structured replies after extended headers, or acknowledge them',
  )
}

async function disconnect(c: Examination): Promise<void> {
  const client = await c.begin()
  const unit = unitOf(c.facts)
  for (let n = 0; n < 8; n++) client.request(nbd.NBD_CMD_READ, { cookie: BigInt(n), length: unit })
  client.request(nbd.NBD_CMD_DISC)
  const bytes = await client.receiveAll()
  const whole = 8 * (nbd.SIMPLE_REPLY_LENGTH + unit)
  c.must(
    bytes.length === whole,
    'finish what came before DISC, and close without a reply to it',
    `${bytes.length} of ${whole} bytes`,
  )
}

async function hardDisconnect(c: Examination): Promise<void> {
  for (let n = 0; n < 8; n++) {
    const client = await c.begin()
    for (let k = 0; k < 16; k++) client.request(nbd.NBD_CMD_READ, { length: Math.min(c.facts.size, 256 * KiB) })
    if (n % 2 === 0) client.send('25609513 0000')
    client.socket.destroy()
  }
  c.must(await c.lives(await c.begin()), 'go on serving when clients leave in the middle of requests', 'it did not')
  const garbage = await c.begin()
  garbage.send(Buffer.alloc(64 * KiB, 'garbage'))
  garbage.socket.end()
  await garbage.receiveAll()
  c.must(await c.lives(await c.begin()), 'go on serving when a client sends garbage', 'it did not')
}
