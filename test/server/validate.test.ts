import t from 'tap'
import * as nbd from '../../src/nbd/protocol.js'
import { payloadLength, validate, validateRange, type Terms } from '../../src/server/validate.js'

const terms: Terms = { size: 10_000, readOnly: false, style: 'structured', payloadMax: 4096, contextCount: 1 }
const ask = (type: number, fields: Partial<nbd.Request> = {}, changed: Partial<Terms> = {}): number =>
  validate({ flags: 0, type, cookie: 0n, offset: 0, length: 512, ...fields }, { ...terms, ...changed })

const ALL = [
  nbd.NBD_CMD_READ,
  nbd.NBD_CMD_WRITE,
  nbd.NBD_CMD_FLUSH,
  nbd.NBD_CMD_TRIM,
  nbd.NBD_CMD_CACHE,
  nbd.NBD_CMD_WRITE_ZEROES,
  nbd.NBD_CMD_BLOCK_STATUS,
]
const RANGED = ALL.filter((type) => type !== nbd.NBD_CMD_FLUSH)
const pastTheEnd = (type: number): number =>
  type === nbd.NBD_CMD_WRITE || type === nbd.NBD_CMD_WRITE_ZEROES ? nbd.NBD_ENOSPC : nbd.NBD_EINVAL

void t.test('requests inside the export pass', (t) => {
  for (const type of ALL) {
    t.equal(ask(type), 0)
    t.equal(ask(type, { offset: 9999, length: 1 }), 0, 'the last byte')
    const nothing = type === nbd.NBD_CMD_BLOCK_STATUS ? nbd.NBD_EINVAL : 0
    t.equal(ask(type, { offset: 10_000, length: 0 }), nothing, 'nothing, at the end')
  }
  t.end()
})

void t.test('requests that leave the export do not', (t) => {
  for (const type of RANGED) {
    t.equal(ask(type, { offset: 9999, length: 2 }), pastTheEnd(type))
    t.equal(ask(type, { offset: 10_001, length: 0 }), pastTheEnd(type))
    t.equal(ask(type, { offset: Infinity }), pastTheEnd(type), 'an offset beyond all numbers')
    t.equal(ask(type, { offset: Number.MAX_SAFE_INTEGER }), pastTheEnd(type))
  }
  t.equal(ask(nbd.NBD_CMD_FLUSH, { offset: Infinity }), 0, 'a flush has no range')
  t.end()
})

void t.test('only payloads are limited', (t) => {
  const long = { length: 4097 }
  t.equal(ask(nbd.NBD_CMD_READ, { length: 4096 }), 0)
  t.equal(ask(nbd.NBD_CMD_READ, long), nbd.NBD_EINVAL)
  t.equal(ask(nbd.NBD_CMD_WRITE, long), nbd.NBD_EINVAL)
  t.equal(ask(nbd.NBD_CMD_TRIM, long), 0)
  t.equal(ask(nbd.NBD_CMD_WRITE_ZEROES, long), 0)
  t.equal(ask(nbd.NBD_CMD_CACHE, long), 0)
  t.end()
})

void t.test('a read-only export refuses changes and nothing else', (t) => {
  const readOnly = { readOnly: true }
  for (const type of [nbd.NBD_CMD_WRITE, nbd.NBD_CMD_TRIM, nbd.NBD_CMD_WRITE_ZEROES]) {
    t.equal(ask(type, {}, readOnly), nbd.NBD_EPERM)
    t.equal(ask(type, { offset: Infinity }, readOnly), nbd.NBD_EPERM)
  }
  for (const type of [nbd.NBD_CMD_READ, nbd.NBD_CMD_FLUSH, nbd.NBD_CMD_CACHE, nbd.NBD_CMD_BLOCK_STATUS]) {
    t.equal(ask(type, {}, readOnly), 0)
  }
  t.end()
})

void t.test('each command takes its flags and no other', (t) => {
  const taken = new Map<number, number>(ALL.map((type) => [type, nbd.NBD_CMD_FLAG_FUA]))
  taken.set(nbd.NBD_CMD_READ, nbd.NBD_CMD_FLAG_FUA | nbd.NBD_CMD_FLAG_DF)
  taken.set(nbd.NBD_CMD_WRITE_ZEROES, nbd.NBD_CMD_FLAG_FUA | nbd.NBD_CMD_FLAG_NO_HOLE | nbd.NBD_CMD_FLAG_FAST_ZERO)
  taken.set(nbd.NBD_CMD_BLOCK_STATUS, nbd.NBD_CMD_FLAG_FUA | nbd.NBD_CMD_FLAG_REQ_ONE)
  for (const type of ALL) {
    for (let bit = 0; bit < 16; bit++) {
      const expected = ((taken.get(type) ?? 0) & (1 << bit)) !== 0 ? 0 : nbd.NBD_EINVAL
      t.equal(ask(type, { flags: 1 << bit }), expected, `command ${type}, flag ${bit}`)
    }
  }
  const df = { flags: nbd.NBD_CMD_FLAG_DF }
  t.equal(ask(nbd.NBD_CMD_READ, df, { style: 'simple' }), nbd.NBD_EINVAL, 'DF was not advertised')
  t.end()
})

void t.test('unknown and unadvertised commands are invalid', (t) => {
  for (const type of [nbd.NBD_CMD_RESIZE, 9, 0xffff]) t.equal(ask(type), nbd.NBD_EINVAL)
  t.equal(ask(nbd.NBD_CMD_BLOCK_STATUS, {}, { contextCount: 0 }), nbd.NBD_EINVAL, 'no context was selected')
  t.end()
})

void t.test('a payload is what WRITE has, and with extended headers what says so', (t) => {
  const payload = (type: number, flags: number, style: Terms['style']) =>
    payloadLength({ flags, type, cookie: 0n, offset: 0, length: 512 }, style)
  const flag = nbd.NBD_CMD_FLAG_PAYLOAD_LEN
  t.equal(payload(nbd.NBD_CMD_WRITE, 0, 'simple'), 512)
  t.equal(payload(nbd.NBD_CMD_READ, flag, 'structured'), 0)
  t.equal(payload(nbd.NBD_CMD_WRITE, 0, 'extended'), 0)
  t.equal(payload(nbd.NBD_CMD_READ, flag, 'extended'), 512)
  t.end()
})

void t.test('with extended headers WRITE must say that it has a payload, and BLOCK_STATUS may', (t) => {
  const extended = { style: 'extended', contextCount: 2 } as const
  const flags = nbd.NBD_CMD_FLAG_PAYLOAD_LEN
  t.equal(ask(nbd.NBD_CMD_WRITE, { flags }, extended), 0)
  t.equal(ask(nbd.NBD_CMD_WRITE, {}, extended), nbd.NBD_EINVAL)
  for (const type of ALL.filter((type) => type !== nbd.NBD_CMD_WRITE && type !== nbd.NBD_CMD_BLOCK_STATUS)) {
    t.equal(ask(type, { flags }, extended), nbd.NBD_EINVAL)
    t.equal(ask(type, {}, extended), 0)
  }
  const status = (length: number) => ask(nbd.NBD_CMD_BLOCK_STATUS, { flags, length, offset: 9999 }, extended)
  const lengths = [0, 4, 8, 11, 12, 14, 16, 20]
  t.same(
    lengths.filter((length) => status(length) === 0),
    [12, 16],
    'an id or two',
  )
  const range = { type: nbd.NBD_CMD_BLOCK_STATUS, cookie: 0n, offset: 9999 }
  t.equal(validateRange({ ...range, length: 1 }, terms), 0)
  t.equal(validateRange({ ...range, length: 2 }, terms), nbd.NBD_EINVAL)
  t.end()
})
