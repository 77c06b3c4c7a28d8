/**
 * What the NBD protocol demands of a server, in thirty points: each check says whether the specification says MUST or
 * SHOULD. Bare bytes, against the remapper as `nbd-remap serve` exports it. TLS has a test of its own.
 */
import net from 'node:net'
import t, { type Test } from 'tap'
import * as nbd from '../../src/nbd/protocol.js'
import { KiB, MiB } from '../../src/util/units.js'
import { RawClient, type GoOptions, type OptionReply, type Reply } from '../../src/conformance/raw-client.js'
import { until } from '../support/nbd-server.js'
import { pattern } from '../support/rig.js'
import { BLOCK, LOST_BLOCK, REMAPPED_BLOCK, servePair, type ServedPair } from '../support/served-pair.js'

/** No multiple of anything. */
const SIZE = 2 * MiB + 777
const CONTEXTS = [nbd.BASE_ALLOCATION, 'nbd-remap:state']
const ALL_STYLES: readonly GoOptions[] = [{}, { structured: true }, { extended: true, contexts: CONTEXTS }]

const DISC: nbd.Request = { flags: 0, type: nbd.NBD_CMD_DISC, cookie: 0n, offset: 0, length: 0 }

const pair: Promise<ServedPair> = servePair(t, SIZE)
const connect = async (): Promise<RawClient> => (await pair).connect()
const greeted = async (): Promise<RawClient> => {
  const client = await connect()
  await client.greet()
  return client
}
const begin = async (options: GoOptions = {}): Promise<RawClient> => (await connect()).go({ name: 'disk', ...options })

const types = (replies: readonly OptionReply[]): number[] => replies.map(({ type }) => type)
const infoData = (name: string, ...infos: number[]): Buffer => nbd.encodeInfoRequest({ name, infos })
const contextData = (name: string, ...queries: string[]): Buffer => nbd.encodeMetaContextRequest({ name, queries })
const isClosed = async (client: RawClient): Promise<boolean> => (await client.receiveAll()).length === 0

/** The connection understands the next request. */
async function lives(t: Test, client: RawClient, what: string): Promise<void> {
  const { error, cookie } = await client.ask(nbd.NBD_CMD_FLUSH, { cookie: 0xabcn })
  t.same({ error, cookie }, { error: 0, cookie: 0xabcn }, what)
}

/** The next option is understood. */
async function haggles(t: Test, client: RawClient, what: string): Promise<void> {
  t.same(types(await client.option(nbd.NBD_OPT_LIST)), [2, 2, 1], what)
}

const infosOf = (replies: readonly OptionReply[]): (nbd.Info | undefined)[] =>
  replies.filter(({ type }) => type === nbd.NBD_REP_INFO).map(({ data }) => nbd.decodeInfo(data))

async function flagsOf(options: GoOptions & { readonly name: string }): Promise<number> {
  const client = await greeted()
  if (options.structured) await client.option(nbd.NBD_OPT_STRUCTURED_REPLY)
  if (options.extended) await client.option(nbd.NBD_OPT_EXTENDED_HEADERS)
  if (options.contexts) {
    await client.option(nbd.NBD_OPT_SET_META_CONTEXT, contextData(options.name, ...options.contexts))
  }
  const [info] = infosOf(await client.option(nbd.NBD_OPT_GO, infoData(options.name)))
  return info?.type === nbd.NBD_INFO_EXPORT ? info.transmissionFlags : 0
}

void t.test('1. the greeting', async (t) => {
  const greeting = await (await connect()).receive(nbd.GREETING_LENGTH)
  t.equal(greeting.toString('latin1', 0, 16), 'NBDMAGICIHAVEOPT', 'MUST begin with NBDMAGIC and IHAVEOPT')
  const flags = greeting.readUInt16BE(16)
  t.equal(flags & 1, 1, 'MUST set FIXED_NEWSTYLE')
  t.equal(flags & ~3, 0, 'MUST set no other flag than that and NO_ZEROES')
  const { server } = await pair
  const address = await server.listen({ host: '127.0.0.1', port: 0 })
  const calls = t.capture(net.Socket.prototype, 'setNoDelay')
  const socket = net.connect({ host: '127.0.0.1', port: 'port' in address ? address.port : 0 })
  await new Promise((resolve) => socket.once('data', resolve))
  t.same(
    calls().map(({ args }) => args as unknown),
    [[true]],
    'SHOULD set TCP_NODELAY',
  )
  socket.destroy()
})

void t.test('2. client flags', async (t) => {
  for (let bit = 2; bit < 32; bit++) {
    const client = await connect()
    await client.greet(2 ** bit + 3)
    if (!(await isClosed(client))) t.fail(`bit ${bit}`)
  }
  t.pass('MUST drop the connection for a flag that is not known')
  for (const flags of [0, 1, 2, 3]) {
    const client = await connect()
    await client.greet(flags)
    await haggles(t, client, `MUST take the flags that were offered: ${flags}`)
  }
})

void t.test('3. zeroes after the export', async (t) => {
  const size = Buffer.alloc(8)
  size.writeBigUInt64BE(BigInt(SIZE))
  for (const [flags, zeroes] of [
    [1, 124],
    [3, 0],
  ] as const) {
    const client = await connect()
    await client.greet(flags)
    client.send(nbd.encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from('disk')))
    const answer = await client.receive(10 + zeroes)
    t.ok(answer.subarray(0, 8).equals(size), 'MUST send the size')
    t.ok(answer.subarray(10).equals(Buffer.alloc(zeroes)), `MUST send ${zeroes} zeroes with client flags ${flags}`)
    await lives(t, client, 'MUST send nothing else')
    const go = await connect()
    await go.greet(flags)
    await go.option(nbd.NBD_OPT_GO, infoData('disk'))
    await lives(t, go, `MUST send no zeroes after GO with client flags ${flags}`)
  }
})

void t.test('4. EXPORT_NAME', async (t) => {
  for (const name of ['nothing', 'a\0b', '\xff', 'x'.repeat(5000), 'x'.repeat(200 * KiB)]) {
    const client = await greeted()
    client.send(nbd.encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from(name, 'latin1')))
    t.ok(await isClosed(client), `MUST close without an answer: ${JSON.stringify(name.slice(0, 8))}`)
  }
  for (const name of ['', 'disk']) {
    const client = await greeted()
    client.send(nbd.encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from(name)))
    const { size } = nbd.decodeExportSize(await client.receive(10))
    t.equal(size, SIZE, `SHOULD be supported, the empty name for the default export: "${name}"`)
    await lives(t, client, 'MUST enter the transmission phase')
  }
})

void t.test('5. options in general', async (t) => {
  const client = await greeted()
  for (const option of [nbd.NBD_OPT_PEEK_EXPORT, 12, 0, 0xffffffff]) {
    for (const length of [0, 1, 5000, 300 * KiB]) {
      client.send(nbd.encodeOption(option, Buffer.alloc(length, 'x')))
      const reply = await client.receiveOptionReply()
      t.equal(reply.option, option, 'MUST echo the option after the reply magic')
      t.equal(reply.type, nbd.NBD_REP_ERR_UNSUP, `MUST be ERR_UNSUP: option ${option} with ${length} bytes`)
    }
  }
  await haggles(t, client, 'MUST understand the next option')
})

void t.test('6. ABORT and LIST', async (t) => {
  for (const length of [0, 10, 300 * KiB]) {
    const client = await greeted()
    client.send(nbd.encodeOption(nbd.NBD_OPT_ABORT, Buffer.alloc(length)))
    const { type } = await client.receiveOptionReply()
    t.equal(type, nbd.NBD_REP_ACK, `MUST acknowledge ABORT, and SHOULD ignore ${length} bytes of data`)
    t.ok(await isClosed(client), 'MUST close then')
  }
  const rude = await greeted()
  rude.send(nbd.encodeOption(nbd.NBD_OPT_ABORT))
  rude.socket.destroy()
  const client = await greeted()
  const replies = await client.option(nbd.NBD_OPT_LIST)
  t.same(types(replies), [nbd.NBD_REP_SERVER, nbd.NBD_REP_SERVER, nbd.NBD_REP_ACK], 'MUST list, then acknowledge')
  const names = replies.slice(0, -1).map(({ data }) => nbd.decodeServerReply(data).name)
  t.same(names, ['disk', 'readonly'], 'MUST list names that can be asked for')
  for (const length of [1, 300 * KiB]) {
    const refused = await client.option(nbd.NBD_OPT_LIST, Buffer.alloc(length))
    t.same(types(refused), [nbd.NBD_REP_ERR_INVALID], `SHOULD refuse LIST with ${length} bytes of data`)
  }
})

void t.test('7. INFO and GO', async (t) => {
  for (const option of [nbd.NBD_OPT_INFO, nbd.NBD_OPT_GO]) {
    const client = await greeted()
    const unknown = await client.option(option, infoData('nothing', 0, 3))
    t.same(types(unknown), [nbd.NBD_REP_ERR_UNKNOWN], 'MUST be ERR_UNKNOWN, and SHOULD send no information')
    const malformed = ['', '0000', '00000005 6469736b 0000', '00000004 6469736b 0002 0003', '00000004 6469736b 0000 00']
    for (const data of malformed) {
      const replies = await client.option(option, Buffer.from(data.replaceAll(' ', ''), 'hex'))
      t.same(types(replies), [nbd.NBD_REP_ERR_INVALID], `MUST be ERR_INVALID: "${data}"`)
    }
    const replies = await client.option(option, infoData('disk', 4, 99, 0xffff))
    t.same(types(replies), [nbd.NBD_REP_INFO, nbd.NBD_REP_ACK], 'MUST ignore unknown information types')
    t.equal(replies[0]?.data.length, 12, 'MUST send NBD_INFO_EXPORT')
  }
  for (const infos of [[], [1, 2, 3], [3]]) {
    const client = await greeted()
    const info = await client.option(nbd.NBD_OPT_INFO, infoData('disk', ...infos))
    const go = await client.option(nbd.NBD_OPT_GO, infoData('disk', ...infos))
    const content = (replies: readonly OptionReply[]) => replies.map(({ type, data }) => [type, data.toString('hex')])
    t.same(content(go), content(info), `MUST answer GO as INFO: ${infos.join(' ')}`)
    t.notOk(types(go).includes(nbd.NBD_REP_ERR_BLOCK_SIZE_REQD), 'SHOULD NOT demand BLOCK_SIZE with default sizes')
  }
})

void t.test('8. block sizes', async (t) => {
  const client = await greeted()
  const replies = await client.option(nbd.NBD_OPT_INFO, infoData('disk', nbd.NBD_INFO_BLOCK_SIZE))
  t.ok(
    replies.some(({ data }) => data.length === 14),
    'MUST have 14 bytes',
  )
  const sizes = infosOf(replies).find((info) => info?.type === nbd.NBD_INFO_BLOCK_SIZE)
  if (sizes?.type !== nbd.NBD_INFO_BLOCK_SIZE) return void t.fail('MUST be sent')
  const { minimum, preferred, maximum } = sizes
  t.ok(minimum <= 64 * KiB && Number.isInteger(Math.log2(minimum)), 'MUST have a power of 2 up to 64 KiB as minimum')
  t.ok(preferred >= Math.max(minimum, 512) && Number.isInteger(Math.log2(preferred)), 'MUST prefer a power of 2')
  t.ok(maximum >= preferred, 'MUST have a maximum of at least the preferred size')
  t.ok(maximum >= MiB, 'SHOULD have a maximum of at least 1 MiB')
  t.equal(SIZE % minimum, 0, 'SHOULD have a size that is a multiple of the minimum')
})

void t.test('9. STARTTLS without TLS', async (t) => {
  const client = await greeted()
  const allowed = [nbd.NBD_REP_ERR_UNSUP, nbd.NBD_REP_ERR_POLICY, nbd.NBD_REP_ERR_PLATFORM]
  const [type] = types(await client.option(nbd.NBD_OPT_STARTTLS))
  t.ok(type !== undefined && allowed.includes(type), 'MUST be refused')
  for (let option = 3; option < 13; option++) {
    if (option === nbd.NBD_OPT_GO) continue
    for (const data of [Buffer.alloc(0), infoData('nothing'), contextData('disk')]) {
      const answered = types(await client.option(option, data))
      if (answered.includes(nbd.NBD_REP_ERR_TLS_REQD)) t.fail(`option ${option}`)
    }
  }
  t.pass('MUST never send ERR_TLS_REQD')
})

void t.test('10. STRUCTURED_REPLY', async (t) => {
  const client = await greeted()
  for (const length of [1, 300 * KiB]) {
    const replies = await client.option(nbd.NBD_OPT_STRUCTURED_REPLY, Buffer.alloc(length))
    t.same(types(replies), [nbd.NBD_REP_ERR_INVALID], `SHOULD refuse ${length} bytes of data`)
  }
  for (let i = 0; i < 2; i++) {
    t.same(types(await client.option(nbd.NBD_OPT_STRUCTURED_REPLY)), [nbd.NBD_REP_ACK], 'MUST be acknowledged')
  }
})

void t.test('11. LIST_META_CONTEXT and SET_META_CONTEXT', async (t) => {
  const early = await greeted()
  const set = (client: RawClient, data: Buffer) => client.option(nbd.NBD_OPT_SET_META_CONTEXT, data)
  const namesIn = (replies: readonly OptionReply[]) =>
    replies.slice(0, -1).map(({ data }) => nbd.decodeMetaContext(data).name)
  const refused = await set(early, contextData('disk', ...CONTEXTS))
  t.same(types(refused), [nbd.NBD_REP_ERR_INVALID], 'SHOULD be ERR_INVALID before structured replies')

  const client = await greeted()
  await client.option(nbd.NBD_OPT_STRUCTURED_REPLY)
  const list = async (...queries: string[]) => {
    const replies = await client.option(nbd.NBD_OPT_LIST_META_CONTEXT, contextData('disk', ...queries))
    t.equal(replies.at(-1)?.type, nbd.NBD_REP_ACK, 'MUST end with an acknowledgement')
    for (const { data } of replies.slice(0, -1)) t.equal(nbd.decodeMetaContext(data).id, 0, 'SHOULD list ids as 0')
    return namesIn(replies)
  }
  t.same(await list(), CONTEXTS, 'MUST list all without queries')
  t.same(await list('base:'), [nbd.BASE_ALLOCATION], 'MUST list all of base for `base:`')
  t.same(await list('unknown:', 'unknown:leaf', 'base:leaf'), [], 'MUST ignore unknown namespaces and leaves')
  t.same(await list('unknown:', nbd.BASE_ALLOCATION), [nbd.BASE_ALLOCATION], 'MUST list what is known among them')

  const selected = await set(client, contextData('disk', ...CONTEXTS, nbd.BASE_ALLOCATION))
  const ids = selected.slice(0, -1).map(({ data }) => nbd.decodeMetaContext(data).id)
  t.same(namesIn(selected), CONTEXTS, 'MUST select what is named')
  t.equal(new Set(ids).size, CONTEXTS.length, 'MUST give each an id of its own')
  t.same(
    namesIn(await set(client, contextData('disk', 'base:', 'base:leaf', 'nbd-remap:'))),
    [],
    'MUST select no wildcard',
  )
  for (const data of [
    '',
    '00000004 6469736b',
    '00000004 6469736b 00000001 00000064 62',
    '00000004 6469736b 00000001',
  ]) {
    for (const option of [nbd.NBD_OPT_LIST_META_CONTEXT, nbd.NBD_OPT_SET_META_CONTEXT]) {
      const replies = await client.option(option, Buffer.from(data.replaceAll(' ', ''), 'hex'))
      t.same(types(replies), [nbd.NBD_REP_ERR_INVALID], `MUST be ERR_INVALID: "${data}"`)
    }
  }
  const statusAfter = async (...options: Buffer[]): Promise<number> => {
    const client = await greeted()
    await client.option(nbd.NBD_OPT_STRUCTURED_REPLY)
    for (const data of options) await set(client, data)
    await client.option(nbd.NBD_OPT_GO, infoData('disk'))
    return (await client.ask(nbd.NBD_CMD_BLOCK_STATUS, { length: 512 })).error
  }
  const good = contextData('disk', nbd.BASE_ALLOCATION)
  t.equal(await statusAfter(good), 0, 'MUST count for the export that was named')
  t.equal(await statusAfter(contextData('readonly', nbd.BASE_ALLOCATION)), nbd.NBD_EINVAL, 'SHOULD count for no other')
  t.equal(await statusAfter(good, contextData('disk')), nbd.NBD_EINVAL, 'MUST replace what was selected')
  t.equal(await statusAfter(good, Buffer.alloc(3)), nbd.NBD_EINVAL, 'MUST replace it also when it fails')
  t.equal(await statusAfter(good, Buffer.alloc(100 * KiB)), nbd.NBD_EINVAL, 'MUST replace it also when it is too long')
})

void t.test('12. extended headers', async (t) => {
  const haggling = await greeted()
  const refused = await haggling.option(nbd.NBD_OPT_EXTENDED_HEADERS, Buffer.alloc(1))
  t.same(types(refused), [nbd.NBD_REP_ERR_INVALID], 'SHOULD refuse data')
  t.same(types(await haggling.option(nbd.NBD_OPT_EXTENDED_HEADERS)), [nbd.NBD_REP_ACK], 'MUST be acknowledged')
  const late = types(await haggling.option(nbd.NBD_OPT_STRUCTURED_REPLY))
  t.same(late, [nbd.NBD_REP_ERR_EXT_HEADER_REQD], 'MUST take precedence over structured replies')
  haggling.send(nbd.encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from('disk')))
  t.ok(await isClosed(haggling), 'MUST NOT be followed by EXPORT_NAME')

  const client = await begin({ extended: true, contexts: CONTEXTS })
  const PAYLOAD = nbd.NBD_CMD_FLAG_PAYLOAD_LEN
  const ask = async (type: number, fields: Partial<nbd.Request>, payload: Buffer | string = ''): Promise<Reply> => {
    const reply = await client.ask(type, fields, payload)
    if (reply.magic !== nbd.NBD_EXTENDED_REPLY_MAGIC) t.fail('MUST NOT send other headers')
    if (reply.chunks.some(({ offset }) => offset !== BigInt(fields.offset ?? 0))) t.fail('MUST repeat the offset')
    return reply
  }
  const written = await ask(nbd.NBD_CMD_WRITE, { offset: 100, length: 5 }, Buffer.from('hello'))
  t.same([written.error, written.chunks[0]?.type], [0, nbd.NBD_REPLY_TYPE_NONE], 'MUST answer without a simple reply')
  const read = await ask(nbd.NBD_CMD_READ, { offset: 100, length: 5 })
  t.equal(read.data.toString(), 'hello', 'MUST read what was written')
  t.equal((await ask(nbd.NBD_CMD_WRITE, { length: 5 })).error, nbd.NBD_EINVAL, 'MUST want PAYLOAD_LEN with WRITE')
  for (const type of [nbd.NBD_CMD_READ, nbd.NBD_CMD_TRIM, nbd.NBD_CMD_FLUSH, nbd.NBD_CMD_BLOCK_STATUS, 99]) {
    const trap = Buffer.concat([nbd.encodeExtendedRequest(DISC), Buffer.alloc(967)])
    const { error } = await ask(type, { length: trap.length }, trap)
    if (error !== nbd.NBD_EINVAL) t.fail(`command ${type}`)
  }
  await lives(t, client, 'SHOULD read and refuse payloads that are not expected')
  for (const type of [nbd.NBD_CMD_TRIM, nbd.NBD_CMD_CACHE, nbd.NBD_CMD_BLOCK_STATUS]) {
    const { error } = await ask(type, { length: 2 ** 40 })
    t.equal(error, nbd.NBD_EINVAL, `SHOULD be EINVAL beyond the end, with all 64 bits of the length: ${type}`)
  }
  const zeroes = await ask(nbd.NBD_CMD_WRITE_ZEROES, { length: 2 ** 40 })
  t.equal(zeroes.error, nbd.NBD_ENOSPC, 'SHOULD be ENOSPC beyond the end, with all 64 bits of the length')
  const status = await ask(nbd.NBD_CMD_BLOCK_STATUS, { length: SIZE })
  t.same(
    new Set(status.chunks.map(({ type }) => type)),
    new Set([nbd.NBD_REPLY_TYPE_BLOCK_STATUS_EXT]),
    'MUST be of type 6',
  )
  const statuses = status.chunks.map(({ payload }) => nbd.decodeBlockStatusExt(payload))
  t.same(new Set(statuses.map(({ contextId }) => contextId)), new Set([1, 2]), 'MUST be one for each context')

  const some = async (length: number, ...contextIds: number[]): Promise<Reply> => {
    const payload = nbd.encodeBlockStatusPayload({ length, contextIds })
    return ask(nbd.NBD_CMD_BLOCK_STATUS, { offset: 512, length: payload.length }, payload)
  }
  const one = (await some(512, 2)).chunks.map(({ payload }) => nbd.decodeBlockStatusExt(payload))
  t.same(one, [{ contextId: 2, extents: [{ length: 512, flags: 0 }] }], 'MUST answer for the contexts in the payload')
  for (const ids of [[3], [1, 1], [1, 3], [1, 2, 3]]) {
    t.equal(
      (await some(512, ...ids)).error,
      nbd.NBD_EINVAL,
      `MUST be EINVAL for unknown and repeated contexts: ${ids.join(' ')}`,
    )
  }
  t.equal((await some(SIZE, 1)).error, nbd.NBD_EINVAL, 'SHOULD be EINVAL beyond the end')
  await lives(t, client, 'MUST have read these payloads')
  const far = nbd.encodeExtendedRequest({ flags: 0, type: nbd.NBD_CMD_READ, cookie: 9n, offset: 0, length: 512 })
  far.fill(0xff, 16, 24)
  client.send(far)
  const [chunk] = (await client.receiveReply()).chunks
  t.equal(chunk?.offset, 2n ** 64n - 1n, 'MUST repeat any offset')
  client.send(nbd.encodeExtendedRequest({ ...DISC, type: nbd.NBD_CMD_WRITE, flags: PAYLOAD, length: 64 * MiB + 1 }))
  t.ok(await isClosed(client), 'SHOULD close for a payload above the maximum')
})

void t.test('13. strings', async (t) => {
  const client = await greeted()
  const name = (length: number) => infoData('n'.repeat(length))
  t.same(types(await client.option(nbd.NBD_OPT_INFO, name(4096))), [nbd.NBD_REP_ERR_UNKNOWN], 'MUST take 4096 bytes')
  const tooLong = types(await client.option(nbd.NBD_OPT_INFO, name(4097)))
  t.same(tooLong, [nbd.NBD_REP_ERR_INVALID], 'MUST refuse more')
  for (const bytes of ['61 00', 'ff', 'c3']) {
    const text = Buffer.from(bytes.replaceAll(' ', ''), 'hex')
    const data = Buffer.concat([Buffer.of(0, 0, 0, text.length), text, Buffer.of(0, 0)])
    const replies = await client.option(nbd.NBD_OPT_INFO, data)
    t.same(types(replies), [nbd.NBD_REP_ERR_INVALID], `MUST be UTF-8 without NUL: ${bytes}`)
  }
  const sent: Buffer[] = []
  for (const data of [infoData('\u{1f4be}'.repeat(1000)), infoData('\u0001'.repeat(4096)), Buffer.alloc(7)]) {
    sent.push(...(await client.option(nbd.NBD_OPT_INFO, data)).map(({ data }) => data))
  }
  const infos = await client.option(nbd.NBD_OPT_INFO, infoData('disk', nbd.NBD_INFO_NAME, nbd.NBD_INFO_DESCRIPTION))
  for (const { data } of infos.slice(1, -1)) sent.push(data.subarray(2))
  for (const text of sent) t.equal(nbd.decodeString(text).length > 0, true, 'MUST be sent as UTF-8, at most 4096 bytes')
})

void t.test('14. transmission flags', async (t) => {
  const simple = await flagsOf({ name: 'disk' })
  const structured = await flagsOf({ name: 'disk', structured: true })
  const extended = await flagsOf({ name: 'disk', extended: true, contexts: CONTEXTS })
  const readOnly = await flagsOf({ name: 'readonly' })
  for (const flags of [simple, structured, extended, readOnly]) {
    t.ok(flags & nbd.NBD_FLAG_HAS_FLAGS, 'MUST set HAS_FLAGS')
    t.ok((flags & nbd.NBD_FLAG_SEND_FLUSH) !== 0 && (flags & nbd.NBD_FLAG_SEND_FUA) !== 0, 'SHOULD offer FLUSH and FUA')
    t.notOk(flags & nbd.NBD_FLAG_SEND_RESIZE, 'MUST NOT set what does not work')
    const zeroes = (flags & nbd.NBD_FLAG_SEND_WRITE_ZEROES) !== 0
    t.ok(zeroes || (flags & nbd.NBD_FLAG_SEND_FAST_ZERO) === 0, 'MUST offer FAST_ZERO with WRITE_ZEROES only')
  }
  t.notOk(simple & nbd.NBD_FLAG_SEND_DF, 'MUST NOT offer DF without chunks')
  t.ok((structured & extended & nbd.NBD_FLAG_SEND_DF) !== 0, 'MUST offer DF, which works, with chunks')
  t.notOk((simple | structured) & nbd.NBD_FLAG_BLOCK_STATUS_PAYLOAD, 'MUST offer payloads with extended headers only')
  const plain = await flagsOf({ name: 'disk', extended: true })
  t.notOk(plain & nbd.NBD_FLAG_BLOCK_STATUS_PAYLOAD, 'SHOULD NOT offer payloads without contexts')
  t.ok(readOnly & nbd.NBD_FLAG_READ_ONLY, 'MUST say when an export is read-only')
  t.notOk(simple & nbd.NBD_FLAG_READ_ONLY, 'MUST NOT say so when it is not')
  const client = await begin({ name: 'readonly' })
  for (const type of [nbd.NBD_CMD_WRITE, nbd.NBD_CMD_TRIM, nbd.NBD_CMD_WRITE_ZEROES]) {
    const { error } = await client.ask(type, { length: 512 }, type === nbd.NBD_CMD_WRITE ? Buffer.alloc(512) : '')
    t.equal(error, nbd.NBD_EPERM, `MUST fail on a read-only export, SHOULD with EPERM: command ${type}`)
  }
})

void t.test('15. several connections', async (t) => {
  const { memory } = await pair
  t.ok((await flagsOf({ name: 'disk' })) & nbd.NBD_FLAG_CAN_MULTI_CONN, 'CAN_MULTI_CONN is set')
  const [one, two] = [await begin(), await begin({ structured: true })]
  await one.ask(nbd.NBD_CMD_WRITE, { offset: 4000, length: 5 }, Buffer.from('multi'))
  const { data } = await two.ask(nbd.NBD_CMD_READ, { offset: 4000, length: 5 })
  t.equal(data.toString(), 'multi', 'MUST be visible on all connections')
  memory.calls.length = 0
  await two.ask(nbd.NBD_CMD_FLUSH)
  t.match(memory.calls, [{ operation: 'flush' }], 'MUST cover with a flush what others have written')
})

void t.test('16. requests', async (t) => {
  const { memory } = await pair
  const client = await begin()
  let open: () => void = () => undefined
  const gate = new Promise<void>((resolve) => (open = resolve))
  memory.before = ({ offset }) => (offset === 512 * KiB ? gate : undefined)
  client.request(nbd.NBD_CMD_READ, { cookie: 1n, offset: 512 * KiB, length: 1 })
  client.request(nbd.NBD_CMD_READ, { cookie: 2n ** 64n - 1n, offset: 0, length: 1 })
  t.equal((await client.receiveReply(1)).cookie, 2n ** 64n - 1n, 'MUST echo the cookie; MAY reply out of order')
  open()
  t.equal((await client.receiveReply(1)).cookie, 1n, 'MUST answer each request')
  memory.before = undefined
  client.send(Buffer.alloc(28, 0x42))
  t.ok(await isClosed(client), 'MAY close for a bad magic')
})

void t.test('17. simple replies', async (t) => {
  const client = await begin()
  const bad = { offset: LOST_BLOCK * BLOCK, length: BLOCK }
  const replies = [
    await client.ask(nbd.NBD_CMD_READ, { length: 3 }),
    await client.ask(nbd.NBD_CMD_READ, bad),
    await client.ask(nbd.NBD_CMD_READ, { offset: SIZE, length: 512 }),
    await client.ask(nbd.NBD_CMD_FLUSH),
    await client.ask(99),
  ]
  t.ok(
    replies.every(({ magic }) => magic === nbd.NBD_SIMPLE_REPLY_MAGIC),
    'MUST send no chunks',
  )
  t.same(
    replies.map(({ error }) => error),
    [0, nbd.NBD_EIO, nbd.NBD_EINVAL, 0, nbd.NBD_EINVAL],
    'MUST send no payload with an error',
  )
})

void t.test('18. structured replies', async (t) => {
  const client = await begin({ structured: true, contexts: CONTEXTS })
  for (const [offset, length] of [
    [0, 512],
    [1, 60_000],
    [REMAPPED_BLOCK * BLOCK - 5, BLOCK + 10],
    [SIZE - 777, 777],
    [0, LOST_BLOCK * BLOCK],
  ] as const) {
    const { chunks } = await client.ask(nbd.NBD_CMD_READ, { offset, length })
    checkRead(t, chunks, offset, length)
  }
  const lost = LOST_BLOCK * BLOCK + 1024
  const failed = await client.ask(nbd.NBD_CMD_READ, { offset: lost - 3000, length: 8000 })
  const [chunk] = failed.chunks
  t.equal(failed.magic, nbd.NBD_STRUCTURED_REPLY_MAGIC, 'MUST answer READ with chunks also when it fails')
  t.equal(failed.error, nbd.NBD_EIO, 'MUST have an error that is not 0')
  t.equal(chunk?.type, nbd.NBD_REPLY_TYPE_ERROR_OFFSET, 'SHOULD say where')
  const { offset, message } = nbd.decodeErrorChunk(nbd.NBD_REPLY_TYPE_ERROR_OFFSET, chunk?.payload ?? Buffer.alloc(0))
  t.equal(offset, lost, 'MUST give an offset inside the request')
  t.ok(message.length > 0 && message.length <= 4096, 'MUST have a message that fits')
  const early = await client.ask(nbd.NBD_CMD_READ, { offset: SIZE, length: 512, flags: 0x100 })
  t.equal(early.magic, nbd.NBD_STRUCTURED_REPLY_MAGIC, 'MUST answer READ with chunks also when it is refused')
  for (const type of [nbd.NBD_CMD_TRIM, nbd.NBD_CMD_BLOCK_STATUS, 99]) {
    const { magic } = await client.ask(type, { offset: SIZE, length: 512 })
    t.equal(magic, nbd.NBD_STRUCTURED_REPLY_MAGIC, `SHOULD send other errors as chunks: command ${type}`)
  }
})

/** What chunks of a READ that succeeds have to be. */
function checkRead(t: Test, chunks: Reply['chunks'], offset: number, length: number): void {
  const covered: [number, number][] = []
  for (const { type, payload, flags } of chunks) {
    t.equal(
      (flags & nbd.NBD_REPLY_FLAG_DONE) !== 0,
      covered.length === chunks.length - 1,
      'MUST end with the only DONE',
    )
    const isData = type === nbd.NBD_REPLY_TYPE_OFFSET_DATA
    const start = nbd.decodeDataOffset(payload)
    const end = start + (isData ? payload.length - 8 : nbd.decodeHole(payload).length)
    covered.push([start, end])
    const expected = pattern(start, end - start)
    if (isData && start > LOST_BLOCK * BLOCK) t.ok(payload.subarray(8).equals(expected), 'MUST be the data')
  }
  covered.sort(([a], [b]) => a - b)
  let at = offset
  for (const [start, end] of covered) {
    t.equal(start, at, 'MUST leave nothing out and overlap nowhere')
    at = end
  }
  t.equal(at, offset + length, 'MUST end where the request ends')
}

void t.test('19. DF', async (t) => {
  const { memory } = await pair
  for (const options of [{ structured: true }, { extended: true }]) {
    const client = await begin(options)
    for (const length of [1, 64 * KiB, MiB]) {
      const reply = await client.ask(nbd.NBD_CMD_READ, { offset: MiB, length, flags: nbd.NBD_CMD_FLAG_DF })
      const content = reply.chunks.filter(({ type }) => type === 1 || type === 2)
      t.equal(content.length, 1, `MUST be one chunk with content: ${length} bytes`)
      t.ok(reply.data.equals(memory.data.subarray(MiB, MiB + length)), 'MUST have the data')
    }
  }
  const { error } = await (await begin()).ask(nbd.NBD_CMD_READ, { length: 512, flags: nbd.NBD_CMD_FLAG_DF })
  t.equal(error, nbd.NBD_EINVAL, 'SHOULD be EINVAL without chunks')
})

void t.test('20. WRITE', async (t) => {
  const { memory } = await pair
  for (const options of ALL_STYLES) {
    const client = await begin(options)
    const before = Buffer.from(memory.data)
    const ask = (fields: Partial<nbd.Request>) => {
      const payload = Buffer.alloc(fields.length ?? 0, nbd.encodeRequest(DISC))
      return client.ask(nbd.NBD_CMD_WRITE, fields, payload)
    }
    for (const offset of [SIZE - 1, SIZE, 2 ** 52, 2 ** 63]) {
      t.equal((await ask({ offset, length: 4096 })).error, nbd.NBD_ENOSPC, `SHOULD be ENOSPC at ${offset}`)
    }
    const last = nbd.encodeRequest({ flags: 0, type: nbd.NBD_CMD_WRITE, cookie: 1n, offset: 0, length: 512 })
    if (client.style !== 'extended') {
      client.send(last.fill(0xff, 16, 24), Buffer.alloc(512, 'w'))
      t.equal((await client.receiveReply()).error, nbd.NBD_ENOSPC, 'MUST NOT wrap around')
    }
    t.equal((await ask({ length: 512, flags: 0x8000 })).error, nbd.NBD_EINVAL, 'SHOULD be EINVAL with an unknown flag')
    await lives(t, client, 'MUST read the payload of a refused write')
    t.ok(memory.data.equals(before), 'MUST NOT write a part of it')
    for (const type of [nbd.NBD_CMD_READ, nbd.NBD_CMD_TRIM, nbd.NBD_CMD_CACHE, nbd.NBD_CMD_BLOCK_STATUS]) {
      const { error } = await client.ask(type, { offset: SIZE - 1, length: 2 })
      t.equal(error, nbd.NBD_EINVAL, `SHOULD be EINVAL past the end: command ${type}`)
    }
    await client.ask(nbd.NBD_CMD_WRITE, { offset: SIZE - 3, length: 3 }, Buffer.from('end'))
    t.equal(
      memory.data.toString('latin1', SIZE - 4),
      before.toString('latin1', SIZE - 4, SIZE - 3) + 'end',
      'MUST reach the last byte',
    )
    await client.ask(nbd.NBD_CMD_WRITE, { offset: SIZE - 3, length: 3 }, before.subarray(SIZE - 3))
  }
})

void t.test('21. durability and zeros', async (t) => {
  const { memory, main } = await pair
  const client = await begin()
  const range = { offset: 128 * KiB, length: 8 * KiB }
  const FUA = nbd.NBD_CMD_FLAG_FUA
  const all = [0, 1, 3, 4, 5, 6]
  for (const type of all) {
    const payload = type === nbd.NBD_CMD_WRITE ? pattern(range.offset, range.length) : ''
    t.equal((await client.ask(type, { ...range, flags: FUA }, payload)).error, 0, `MUST accept FUA: command ${type}`)
  }
  let flushed: () => void = () => undefined
  const gate = new Promise<void>((resolve) => (flushed = resolve))
  let isWritten = false
  memory.before = ({ operation, options }) => {
    if (operation === 'flush') return gate
    isWritten ||= operation === 'write'
    return options?.fua ? gate : undefined
  }
  client.request(nbd.NBD_CMD_WRITE, { ...range, cookie: 1n, flags: FUA }, Buffer.alloc(range.length, 'f'))
  client.request(nbd.NBD_CMD_FLUSH, { cookie: 2n })
  client.request(nbd.NBD_CMD_READ, { cookie: 3n, length: 1 })
  t.equal((await client.receiveReply(1)).cookie, 3n, 'MUST wait for stable storage with the answers to FUA and FLUSH')
  t.ok(isWritten)
  flushed()
  const cookies = [(await client.receiveReply()).cookie, (await client.receiveReply()).cookie]
  t.same(new Set(cookies), new Set([1n, 2n]), 'MUST answer then')
  memory.before = undefined
  main.add({ operations: ['flush'], start: 0, end: SIZE, code: 'EIO', times: 2 })
  t.equal((await client.ask(nbd.NBD_CMD_FLUSH)).error, nbd.NBD_EIO, 'MUST say when a flush fails')
  const written = await client.ask(nbd.NBD_CMD_WRITE, { ...range, flags: FUA }, pattern(range.offset, range.length))
  t.equal(written.error, nbd.NBD_EIO, 'MUST say when FUA fails')

  for (const flags of [0, nbd.NBD_CMD_FLAG_NO_HOLE]) {
    for (const offset of [range.offset + 1, REMAPPED_BLOCK * BLOCK - 1000]) {
      const { error } = await client.ask(nbd.NBD_CMD_WRITE_ZEROES, { offset, length: 5000, flags })
      t.equal(error, 0, 'MUST support WRITE_ZEROES and NO_HOLE')
      const { data } = await client.ask(nbd.NBD_CMD_READ, { offset, length: 5000 })
      t.ok(data.equals(Buffer.alloc(5000)), 'MUST read as zeros')
      await client.ask(nbd.NBD_CMD_WRITE, { offset, length: 5000 }, pattern(offset, 5000))
    }
  }
})

void t.test('22. FAST_ZERO', async (t) => {
  const client = await begin()
  const FAST = nbd.NBD_CMD_FLAG_FAST_ZERO
  for (const offset of [256 * KiB, REMAPPED_BLOCK * BLOCK]) {
    const { error } = await client.ask(nbd.NBD_CMD_WRITE_ZEROES, { offset, length: BLOCK, flags: FAST })
    const { data } = await client.ask(nbd.NBD_CMD_READ, { offset, length: BLOCK })
    const expected = error === 0 ? Buffer.alloc(BLOCK) : pattern(offset, BLOCK)
    t.ok(error === 0 || error === nbd.NBD_ENOTSUP, 'MUST succeed or be ENOTSUP')
    t.ok(data.equals(expected), `SHOULD change nothing when it answers ${error}`)
    await client.ask(nbd.NBD_CMD_WRITE, { offset, length: BLOCK }, pattern(offset, BLOCK))
  }
  const many = await client.ask(nbd.NBD_CMD_WRITE_ZEROES, { offset: 0, length: 2 ** 32 - 1, flags: FAST })
  t.equal(many.error, nbd.NBD_ENOSPC, 'SHOULD NOT be EOVERFLOW')
  const other = await client.ask(nbd.NBD_CMD_TRIM, { length: BLOCK, flags: FAST })
  t.equal(other.error, nbd.NBD_EINVAL, 'SHOULD be EINVAL on other commands')
  const { main } = await pair
  for (const code of ['ENOTSUP', 'EOVERFLOW', 'ENOMEM'] as const) {
    main.add({ operations: ['flush'], start: 0, end: SIZE, code, times: 1 })
    t.equal((await client.ask(nbd.NBD_CMD_FLUSH)).error, nbd.NBD_EIO, `SHOULD NOT send ${code} elsewhere`)
  }
})

void t.test('23. lengths above the maximum without a payload', async (t) => {
  const huge = await servePair(t, 80 * MiB)
  for (const options of ALL_STYLES) {
    const client = await (await huge.connect()).go({ name: 'disk', ...options })
    for (const type of [nbd.NBD_CMD_TRIM, nbd.NBD_CMD_WRITE_ZEROES, nbd.NBD_CMD_CACHE]) {
      const { error } = await client.ask(type, { length: 80 * MiB })
      t.ok([0, nbd.NBD_EOVERFLOW, nbd.NBD_EINVAL].includes(error), `MAY be refused: command ${type}`)
      t.equal(error, 0, 'and is not')
    }
    const { error } = await client.ask(nbd.NBD_CMD_CACHE, { length: 512, flags: nbd.NBD_CMD_FLAG_DF })
    t.equal(error, nbd.NBD_EINVAL, 'MUST refuse CACHE with a flag that is not known')
    await lives(t, client, 'SHOULD NOT disconnect')
  }
})

void t.test('24. BLOCK_STATUS', async (t) => {
  const { memory } = await pair
  memory.extents = (offset, length) => {
    const hole = Math.min(length, Math.max(0, MiB - offset))
    return Promise.resolve([
      ...(hole > 0 ? [{ length: hole, allocation: 'hole' as const }] : []),
      ...(hole < length ? [{ length: length - hole, allocation: 'data' as const }] : []),
    ])
  }
  t.teardown(() => {
    delete memory.extents
  })
  const lost = LOST_BLOCK * BLOCK + 1024
  for (const options of [
    { structured: true, contexts: CONTEXTS },
    { extended: true, contexts: CONTEXTS },
  ]) {
    const client = await begin(options)
    const decode = options.structured ? nbd.decodeBlockStatus : nbd.decodeBlockStatusExt
    const status = async (offset: number, length: number, flags = 0): Promise<nbd.BlockStatus[]> => {
      const { chunks } = await client.ask(nbd.NBD_CMD_BLOCK_STATUS, { offset, length, flags })
      t.same(chunks.length, CONTEXTS.length, 'MUST be one chunk for each context')
      return chunks.map(({ payload }) => decode(payload))
    }
    for (const [offset, length] of [
      [0, SIZE],
      [SIZE - 1, 1],
      [lost - 1, 3],
      [MiB - 100, 200],
      [513, 2 * KiB],
    ] as const) {
      const statuses = await status(offset, length)
      t.same(statuses.map(({ contextId }) => contextId).sort(), [1, 2], 'MUST be those that were selected')
      for (const { extents, contextId } of statuses) {
        const lengths = extents.map((extent) => extent.length)
        const sum = lengths.reduce((a, b) => a + b)
        t.ok(Math.min(...lengths) > 0, 'MUST have no empty extent')
        t.ok(offset + sum <= SIZE, 'MUST stay inside the export')
        t.ok(sum - (lengths.at(-1) ?? 0) < length, 'MUST end with the extent that reaches the end of the request')
        t.ok(lengths.length <= 2 ** 20, 'SHOULD have no more than 2^20 extents')
        const allowed = contextId === 1 ? [0, 3] : [0, 1, 2]
        t.ok(
          extents.every(({ flags }) => allowed.includes(flags)),
          'SHOULD have no other flags',
        )
        t.notOk(
          extents.some(({ flags }, i) => flags === extents[i + 1]?.flags),
          'SHOULD have neighbours that differ',
        )
      }
      for (const { extents } of await status(offset, length, nbd.NBD_CMD_FLAG_REQ_ONE)) {
        t.equal(extents.length, 1, 'MUST be exactly one with REQ_ONE')
        t.ok((extents[0]?.length ?? 0) <= length, 'MUST NOT be longer than asked for with REQ_ONE')
      }
    }
    const [allocation, state] = await status(0, SIZE)
    t.same(
      state?.extents,
      [
        { length: REMAPPED_BLOCK * BLOCK, flags: 0 },
        { length: BLOCK, flags: 1 },
        { length: (LOST_BLOCK - REMAPPED_BLOCK - 1) * BLOCK, flags: 0 },
        { length: 1024, flags: 1 },
        { length: 1024, flags: 2 },
        { length: 2048, flags: 1 },
        { length: SIZE - (LOST_BLOCK + 1) * BLOCK, flags: 0 },
      ],
      'nbd-remap:state is exact to the sector',
    )
    t.same(
      allocation?.extents,
      [
        { length: REMAPPED_BLOCK * BLOCK, flags: 3 },
        { length: BLOCK, flags: 0 },
        { length: (LOST_BLOCK - REMAPPED_BLOCK - 1) * BLOCK, flags: 3 },
        { length: BLOCK, flags: 0 },
        { length: MiB - (LOST_BLOCK + 1) * BLOCK, flags: 3 },
        { length: SIZE - MiB, flags: 0 },
      ],
      'base:allocation says of main where the holes are, and that all that moved is data',
    )
    for (const fields of [
      { offset: SIZE, length: 1 },
      { offset: SIZE - 1, length: 2 },
      { offset: 0, length: 0 },
    ]) {
      t.equal(
        (await client.ask(nbd.NBD_CMD_BLOCK_STATUS, fields)).error,
        nbd.NBD_EINVAL,
        'SHOULD be EINVAL beyond the end',
      )
    }
    await lives(t, client, 'SHOULD NOT disconnect')
  }
  for (const options of [{}, { structured: true }, { extended: true }]) {
    const { error } = await (await begin(options)).ask(nbd.NBD_CMD_BLOCK_STATUS, { length: 512 })
    t.equal(error, nbd.NBD_EINVAL, 'SHOULD be EINVAL without a context')
  }
})

void t.test('25. requests of no bytes', async (t) => {
  for (const options of ALL_STYLES) {
    const client = await begin(options)
    for (let type = 0; type < 8; type++) {
      if (type === nbd.NBD_CMD_DISC) continue
      const { cookie } = await client.ask(type, { cookie: BigInt(type) })
      t.equal(cookie, BigInt(type), `command ${type} is answered`)
    }
    await lives(t, client, 'SHOULD NOT disconnect')
  }
})

void t.test('26. unaligned requests', async (t) => {
  const client = await begin()
  const { memory } = await pair
  for (const [offset, length] of [
    [1, 1],
    [511, 2],
    [REMAPPED_BLOCK * BLOCK + 5, 7],
    [SIZE - 1, 1],
  ] as const) {
    const { error } = await client.ask(nbd.NBD_CMD_WRITE, { offset, length }, pattern(offset, length))
    t.equal(error, 0, `SHOULD accept them when the minimum is 1: ${length} bytes at ${offset}`)
  }
  const { data } = await client.ask(nbd.NBD_CMD_READ, { offset: REMAPPED_BLOCK * BLOCK, length: BLOCK })
  t.ok(data.equals(pattern(REMAPPED_BLOCK * BLOCK, BLOCK)), 'MUST NOT damage what stands beside them')
  t.ok(memory.data.subarray(0, 100).equals(pattern(0, 100)), 'MUST NOT damage what stands beside them')
})

void t.test('27. payloads of 32 MiB and more', async (t) => {
  const client = await begin()
  for (const length of [32 * MiB, 64 * MiB, 65 * MiB]) {
    const { error } = await client.ask(nbd.NBD_CMD_WRITE, { length }, Buffer.alloc(length))
    t.equal(
      error,
      length > 64 * MiB ? nbd.NBD_EINVAL : nbd.NBD_ENOSPC,
      `SHOULD be refused and no more: ${length} bytes`,
    )
    const read = await client.ask(nbd.NBD_CMD_READ, { length })
    t.equal(read.error, nbd.NBD_EINVAL, 'SHOULD be refused and no more')
  }
  await lives(t, client, 'SHOULD NOT disconnect')
  const large = await servePair(t, 64 * MiB)
  const [one, two] = [await large.connect(), await large.connect()]
  await Promise.all([one.go({ name: 'disk' }), two.go({ name: 'disk' })])
  for (const client of [one, two])
    client.request(nbd.NBD_CMD_READ, { length: 64 * MiB - 17 * BLOCK, offset: 17 * BLOCK })
  for (const client of [one, two]) {
    const { error, data } = await client.receiveReply(64 * MiB - 17 * BLOCK)
    t.equal(error, 0, 'SHOULD serve the maximum, also to several clients at once')
    t.ok(data.equals(large.memory.data.subarray(17 * BLOCK)), 'MUST be the data')
  }
})

void t.test('28. unknown commands and flags', async (t) => {
  for (const options of ALL_STYLES) {
    const client = await begin(options)
    for (const type of [nbd.NBD_CMD_RESIZE, 9, 99, 0xffff]) {
      t.equal((await client.ask(type, { length: 512 })).error, nbd.NBD_EINVAL, `SHOULD be EINVAL: command ${type}`)
    }
    const known = new Map([
      [0, 5],
      [1, 1],
      [3, 1],
      [4, 1],
      [5, 1],
      [6, 0x13],
      [7, 9],
    ])
    for (const [type, flags] of known) {
      for (let bit = 0; bit < 16; bit++) {
        // What a set payload bit means is a matter of extended headers.
        if ((flags & (1 << bit)) !== 0 || bit === 5) continue
        const payload = type === nbd.NBD_CMD_WRITE ? Buffer.alloc(512) : ''
        const { error } = await client.ask(type, { length: 512, flags: 1 << bit }, payload)
        if (error !== nbd.NBD_EINVAL) t.fail(`command ${type} with flag ${bit}`)
      }
    }
    await lives(t, client, 'SHOULD be EINVAL for every flag that a command does not have, and stay connected')
  }
})

void t.test('29. errors', async (t) => {
  const { main } = await pair
  const allowed = [1, 5, 12, 22, 28, 75, 95, 108]
  const codes = [
    'EPERM',
    'EIO',
    'ENOMEM',
    'EINVAL',
    'ENOSPC',
    'EOVERFLOW',
    'ENOTSUP',
    'ESHUTDOWN',
    'ENODEV',
    'ETIMEDOUT',
  ]
  for (const options of ALL_STYLES) {
    const client = await begin(options)
    for (const code of codes as ('EIO' | 'ENOSPC')[]) {
      main.add({ operations: ['flush'], start: 0, end: SIZE, code, times: 1 })
      const { error } = await client.ask(nbd.NBD_CMD_FLUSH)
      t.ok(allowed.includes(error), `MUST be an error that the protocol has: ${code} is ${error}`)
      if (code === 'ENOSPC') t.equal(error, nbd.NBD_ENOSPC, 'SHOULD be ENOSPC when the disk says so')
    }
  }
})

void t.test('30. the end', async (t) => {
  const own = await servePair(t, SIZE)
  const connectOwn = async () => (await own.connect()).go({ name: 'disk' })
  let open: () => void = () => undefined
  const gate = new Promise<void>((resolve) => (open = resolve))
  own.memory.before = ({ operation }) => (operation === 'write' ? gate : undefined)
  const [leaving, dying, staying] = [await connectOwn(), await connectOwn(), await connectOwn()]
  own.memory.calls.length = 0
  const write = (client: RawClient, offset: number, text: string) => {
    client.request(nbd.NBD_CMD_WRITE, { cookie: 7n, offset, length: text.length }, Buffer.from(text))
  }
  write(leaving, 0, 'before DISC')
  leaving.request(nbd.NBD_CMD_DISC)
  write(dying, BLOCK, 'before it died')
  write(staying, 2 * BLOCK, 'in flight')
  await until(() => own.memory.calls.length === 3)
  dying.socket.destroy()
  const closed = own.server.close()
  open()
  const reply = '67446698000000000000000000000007'
  t.equal(
    (await leaving.receiveAll()).toString('hex'),
    reply,
    'MUST finish what came before DISC, and close without a reply',
  )
  t.equal(
    (await staying.receiveAll()).toString('hex'),
    reply,
    'SHOULD finish what is in flight at the end of the server',
  )
  await closed
  t.equal(own.memory.data.toString('latin1', 0, 11), 'before DISC')
  t.equal(own.memory.data.toString('latin1', BLOCK, BLOCK + 14), 'before it died')
})
