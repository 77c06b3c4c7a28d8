/** docs/NBD-PROTOCOL.md against the code: the program is asked for each row. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { pairExport } from '../../src/cli/pair-export.js'
import { DeviceError, type DeviceErrorCode } from '../../src/device/device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import { ByteReader } from '../../src/nbd/byte-reader.js'
import { DEFAULT_REQUESTS_IN_FLIGHT_MAX } from '../../src/nbd/client.js'
import { DEFAULT_CONNECT_TIMEOUT_MS } from '../../src/nbd/client-connect.js'
import { errorName, optionReplyName } from '../../src/nbd/names.js'
import * as nbd from '../../src/nbd/protocol.js'
import { EXTENTS_MAX } from '../../src/server/block-status.js'
import { wireError } from '../../src/server/errors.js'
import { advertisedBlockSizes, PAYLOAD_MAX, transmissionFlags, type Export } from '../../src/server/export.js'
import { Handshake, type HandshakeResult, type TlsState } from '../../src/server/handshake.js'
import { DEFAULT_LIMITS } from '../../src/server/limits.js'
import { contextsOf, selectContexts } from '../../src/server/meta-context.js'
import type { Negotiated } from '../../src/server/negotiation.js'
import { validate, type Terms } from '../../src/server/validate.js'
import { Document, namesIn, ROOT } from '../support/documents.js'
import { createRig } from '../support/rig.js'

const document = new Document('docs/NBD-PROTOCOL.md')
const SIZE = 2 ** 20
const EXPORT: Export = { name: 'disk', description: 'a disk', device: new MemoryDevice(SIZE), readOnly: false }

const sourceOf = (path: string): string => readFileSync(join(ROOT, path), 'utf8')

/** All constants whose names begin so, as name and number, by their numbers. */
const constants = (prefix: string, except = ' '): [string, number][] =>
  Object.entries(nbd)
    .flatMap(([name, value]): [string, number][] =>
      name.startsWith(prefix) && !name.startsWith(except) && typeof value === 'number' ? [[name, value]] : [],
    )
    .sort(([, a], [, b]) => a - b)

const columns = (heading: string, firstColumn: string): [string, string][] =>
  document.table(heading, firstColumn).rows.map(([name = '', value = '']) => [name, value])

type Answer = { readonly replies: number[]; readonly result: HandshakeResult | undefined }

/** Sends options after the flags of a client. @returns the types of the replies to the last, and how the handshake ended */
function askAfter(before: readonly number[], option: number, data: Buffer, tls: TlsState = 'off'): Answer {
  const sent: Buffer[] = []
  const handshake = new Handshake([EXPORT], DEFAULT_LIMITS, (bytes) => sent.push(bytes), tls)
  const reader = new ByteReader()
  reader.push(nbd.encodeClientFlags(nbd.NBD_FLAG_C_FIXED_NEWSTYLE | nbd.NBD_FLAG_C_NO_ZEROES))
  for (const earlier of before) reader.push(nbd.encodeOption(earlier))
  reader.push(nbd.encodeOption(option, data))
  const result = handshake.advance(reader)
  const replies = sent.slice(1 + before.length)
  const isReply = (bytes: Buffer): boolean => bytes.length >= 8 && bytes.readBigUInt64BE(0) === nbd.NBD_REP_MAGIC
  return { replies: replies.filter(isReply).map((bytes) => nbd.decodeOptionReplyHeader(bytes).type), result }
}

function ask(option: number, data: Buffer, tls?: TlsState): Answer {
  const isAboutContexts = option === nbd.NBD_OPT_LIST_META_CONTEXT || option === nbd.NBD_OPT_SET_META_CONTEXT
  return askAfter(isAboutContexts ? [nbd.NBD_OPT_STRUCTURED_REPLY] : [], option, data, tls)
}

const NOTHING = Buffer.alloc(0)

/** What an option carries when it is well-formed. */
function dataOf(option: number): Buffer {
  if (option === nbd.NBD_OPT_EXPORT_NAME) return Buffer.from('disk')
  if (option === nbd.NBD_OPT_INFO || option === nbd.NBD_OPT_GO) {
    return nbd.encodeInfoRequest({ name: 'disk', infos: [] })
  }
  if (option === nbd.NBD_OPT_LIST_META_CONTEXT || option === nbd.NBD_OPT_SET_META_CONTEXT) {
    return nbd.encodeMetaContextRequest({ name: 'disk', queries: [nbd.BASE_ALLOCATION] })
  }
  return NOTHING
}

void t.test('options are answered as the table says', (t) => {
  const rows = new Map(columns('Handshake', 'option'))
  const known = constants('NBD_OPT_')
  t.same([...rows.keys()], [...known.map(([name]) => name), 'any other'])
  for (const [name, option] of [...known, ['any other', 4711] as const]) {
    const answer = rows.get(name) ?? ''
    const { replies, result } = ask(option, dataOf(option))
    if (option === nbd.NBD_OPT_STARTTLS) {
      const withTls = (['on', 'required'] as const).flatMap((tls) => ask(option, dataOf(option), tls).replies)
      const [first, second] = namesIn(answer).filter((part) => part.startsWith('NBD_'))
      t.same(withTls.map(optionReplyName), [first, first], `${name} with TLS: ${answer}`)
      t.same(replies.map(optionReplyName), [second], `${name} without: ${answer}`)
      continue
    }
    // A cell that is nothing but one name has lost its backticks.
    const names = answer.startsWith('NBD_') ? [answer] : namesIn(answer)
    t.same(replies.map(optionReplyName), names, `${name}: ${answer}`)
    t.equal(result?.kind === 'close', answer.includes('then the connection is closed'), `${name} closes or not`)
    const begins = name === 'NBD_OPT_GO' || name === 'NBD_OPT_EXPORT_NAME'
    t.equal(result?.kind === 'transmission', begins, `${name} begins the transmission phase or not`)
  }
  t.end()
})

void t.test('options are refused as the table says', (t) => {
  const { NBD_OPT_INFO, NBD_OPT_STARTTLS, NBD_OPT_STRUCTURED_REPLY, NBD_OPT_EXTENDED_HEADERS } = nbd
  const nothing = nbd.encodeInfoRequest({ name: 'nothing', infos: [] })
  const contexts = dataOf(nbd.NBD_OPT_SET_META_CONTEXT)
  const causes: Readonly<Record<string, readonly Answer[]>> = {
    NBD_REP_ERR_UNSUP: [ask(99, NOTHING), ask(nbd.NBD_OPT_PEEK_EXPORT, NOTHING)],
    NBD_REP_ERR_POLICY: [ask(NBD_OPT_STARTTLS, NOTHING)],
    NBD_REP_ERR_INVALID: [
      ask(NBD_OPT_INFO, NOTHING),
      ask(nbd.NBD_OPT_LIST, nothing),
      askAfter([], nbd.NBD_OPT_SET_META_CONTEXT, contexts),
      ask(NBD_OPT_STARTTLS, NOTHING, 'active'),
    ],
    NBD_REP_ERR_TLS_REQD: [...constants('NBD_OPT_').map(([, option]) => option), 99]
      .filter((option) => ![NBD_OPT_STARTTLS, nbd.NBD_OPT_ABORT, nbd.NBD_OPT_EXPORT_NAME].includes(option))
      .map((option) => askAfter([], option, dataOf(option), 'required')),
    NBD_REP_ERR_UNKNOWN: [ask(NBD_OPT_INFO, nothing)],
    NBD_REP_ERR_TOO_BIG: [ask(NBD_OPT_INFO, Buffer.alloc(DEFAULT_LIMITS.optionLengthMax + 1))],
    NBD_REP_ERR_EXT_HEADER_REQD: [askAfter([NBD_OPT_EXTENDED_HEADERS], NBD_OPT_STRUCTURED_REPLY, NOTHING)],
  }
  const rows = columns('Handshake', 'error reply')
  t.same(
    rows.map(([name]) => name),
    constants('NBD_REP_ERR_').map(([name]) => name),
  )
  const source = sourceOf('src/server/handshake.ts')
  for (const [name, when] of rows) {
    const answers = causes[name] ?? []
    t.equal(answers.length === 0, when.startsWith('never'), `${name}: ${when}`)
    if (answers.length === 0) t.notMatch(source, new RegExp(`\\b${name}\\b`), `${name} is never sent`)
    for (const { replies, result } of answers) {
      t.same(replies.map(optionReplyName), [name], when)
      t.equal(result, undefined, 'and the next option is read')
    }
  }
  t.end()
})

void t.test('information is sent as the table says', (t) => {
  const rows = new Map(columns('Handshake', 'information'))
  t.same(
    [...rows.keys()],
    constants('NBD_INFO_').map(([name]) => name),
  )
  for (const [name, info] of constants('NBD_INFO_')) {
    const asked = ask(nbd.NBD_OPT_INFO, nbd.encodeInfoRequest({ name: 'disk', infos: [info] }))
    const always = rows.get(name) === 'always'
    t.equal(asked.replies.filter((type) => type === nbd.NBD_REP_INFO).length, always ? 1 : 2, name)
  }
  const { minimum, preferred, maximum } = advertisedBlockSizes(EXPORT)
  t.match(rows.get('NBD_INFO_BLOCK_SIZE'), `minimum ${minimum}, preferred ${preferred} `)
  t.match(rows.get('NBD_INFO_BLOCK_SIZE'), `maximum ${maximum}`)
  t.end()
})

void t.test('transmission flags are set as the table says', (t) => {
  const flags = [...constants('NBD_FLAG_', 'NBD_FLAG_C_')].filter(([name]) => !/FIXED_NEWSTYLE|NO_ZEROES/.test(name))
  const simple: Negotiated = { style: 'simple', contexts: [] }
  const plain = transmissionFlags(EXPORT, simple)
  const readOnly = transmissionFlags({ ...EXPORT, readOnly: true }, simple)
  const structured = transmissionFlags(EXPORT, { ...simple, style: 'structured' })
  const extended = transmissionFlags(EXPORT, { ...simple, style: 'extended' })
  const contexts = selectContexts(EXPORT, [nbd.BASE_ALLOCATION])
  const withContexts = transmissionFlags(EXPORT, { style: 'extended', contexts })
  const when = (bit: number): string => {
    const has = (flags: number): boolean => (flags & bit) !== 0
    if (has(plain)) return has(readOnly) ? 'always' : 'unless read-only'
    if (has(structured) && has(extended)) return 'with structured replies or extended headers'
    if (has(withContexts)) return 'with extended headers and selected contexts'
    return has(readOnly) ? 'read-only' : 'never'
  }
  t.same(
    columns('Transmission flags', 'flag'),
    flags.map(([name, bit]) => [name, when(bit)]),
  )
  t.end()
})

void t.test('commands take the flags that the table says', (t) => {
  const rows = columns('Commands', 'command')
  const commands = constants('NBD_CMD_', 'NBD_CMD_FLAG_')
  t.same(
    rows.map(([name]) => name),
    commands.map(([name]) => name),
  )
  // Of contexts there are so many that the payload of BLOCK_STATUS has a length that READ could have, too.
  const terms: Terms = { size: SIZE, readOnly: false, style: 'structured', payloadMax: PAYLOAD_MAX, contextCount: 512 }
  const extended: Terms = { ...terms, style: 'extended' }
  const request = { cookie: 0n, offset: 0, length: 512 }
  for (const [n, [name, type]] of commands.entries()) {
    if (type === nbd.NBD_CMD_DISC) continue
    const [, text = ''] = rows[n] ?? []
    const isKnown = validate({ ...request, type, flags: 0 }, terms) === 0
    t.equal(isKnown, text !== 'not supported', `${name} is supported or not`)
    const accepted = constants('NBD_CMD_FLAG_').filter(([, flags]) =>
      [terms, extended].some((either) => validate({ ...request, type, flags }, either) === 0),
    )
    const documented = text.startsWith('NBD_') ? [text] : namesIn(text)
    t.same(
      documented,
      accepted.map(([flag]) => flag),
      `${name}: flags`,
    )
  }
  t.end()
})

void t.test('chunks are sent as the table says', (t) => {
  const rows = columns('Replies', 'chunk')
  const types = constants('NBD_REPLY_TYPE_', 'NBD_REPLY_TYPE_FLAG_')
  t.same(
    rows.map(([name]) => name),
    types.map(([name]) => name),
  )
  const replies = sourceOf('src/server/replies.ts')
  for (const [name, sent] of rows) {
    t.equal(new RegExp(`${name}\\b`).test(replies), sent !== 'never', `${name} is sent or not`)
  }
  t.end()
})

void t.test('requests are refused as the table says', (t) => {
  const rows = new Map(columns('Errors', 'error'))
  const check = (name: string, flags: { offset?: number; length?: number; readOnly?: boolean }): string => {
    const type = constants(`NBD_CMD_${name}`)[0]?.[1] ?? 0
    const { offset = 0, length = 512, readOnly = false } = flags
    const terms: Terms = { size: SIZE, readOnly, style: 'simple', payloadMax: PAYLOAD_MAX, contextCount: 1 }
    return errorName(validate({ type, flags: 0, cookie: 0n, offset, length }, terms))
  }
  for (const name of ['WRITE', 'TRIM', 'WRITE_ZEROES']) t.equal(check(name, { readOnly: true }), 'NBD_EPERM', name)
  for (const name of ['WRITE', 'WRITE_ZEROES']) t.equal(check(name, { offset: SIZE }), 'NBD_ENOSPC', name)
  for (const name of ['READ', 'TRIM', 'CACHE', 'BLOCK_STATUS'])
    t.equal(check(name, { offset: SIZE }), 'NBD_EINVAL', name)
  for (const name of ['READ', 'WRITE']) t.equal(check(name, { length: PAYLOAD_MAX + 1 }), 'NBD_EINVAL', name)
  t.match(rows.get('NBD_EPERM'), /^WRITE, TRIM and WRITE_ZEROES of a read-only export$/)
  t.match(rows.get('NBD_ENOSPC'), /^WRITE and WRITE_ZEROES past the end$/)
  t.match(
    rows.get('NBD_EINVAL'),
    `READ, TRIM, CACHE and BLOCK_STATUS past the end; payloads above ${PAYLOAD_MAX} bytes`,
  )
  t.match(document.text, `The longest READ and WRITE is ${PAYLOAD_MAX} bytes.`)
  t.end()
})

void t.test('errors of disks become what the table says', (t) => {
  const rows = columns('Errors', 'error of the disk')
  for (const [code, answer] of rows) {
    const error = new DeviceError(code as DeviceErrorCode, 'main', 'read', 0, 512)
    t.equal(errorName(wireError(error, { type: nbd.NBD_CMD_READ, flags: 0 })), answer, code)
  }
  const [, union = ''] = /type DeviceErrorCode =([^]*?)\n\n/.exec(sourceOf('src/device/device.ts')) ?? []
  t.same(rows.map(([code]) => code).sort(), [...union.matchAll(/'(E\w+)'/g)].map(([, code]) => code).sort())
  t.end()
})

void t.test('the limits of the server are those of the program', (t) => {
  const rows = columns('Limits', 'limit').map(([name, value]) => [name, Number(value)])
  t.same(Object.fromEntries(rows), DEFAULT_LIMITS)
  t.end()
})

void t.test('the settings of the client are those of the program', (t) => {
  const rows = columns('Towards upstreams: the client', 'setting')
  const [, defaults = ''] = /const DEFAULTS = {([^}]*)}/.exec(sourceOf('src/device/upstream-link.ts')) ?? []
  const values = new Map([
    ['DEFAULT_CONNECT_TIMEOUT_MS', DEFAULT_CONNECT_TIMEOUT_MS],
    ['DEFAULT_REQUESTS_IN_FLIGHT_MAX', DEFAULT_REQUESTS_IN_FLIGHT_MAX],
    ['64 * MiB', 64 * 2 ** 20],
  ])
  const settings = [...defaults.matchAll(/(\w+): ([^,]+),/g)].map(([, name = '', text = '']) => [
    name,
    values.get(text) ?? Number(text.replaceAll('_', '')),
  ])
  t.same(
    rows.map(([name, value]) => [name, Number(value)]),
    settings,
  )
  t.end()
})

void t.test('metadata contexts are those that the table says', async (t) => {
  const { target } = await createRig()
  const offered = contextsOf(pairExport(target, 'disk')).map(({ name }) => name)
  t.same(
    columns('Metadata contexts', 'context').map(([name]) => name),
    offered,
  )
  t.match(document.text, `at most ${EXTENTS_MAX} extents`)
})
