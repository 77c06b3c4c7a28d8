/** The handshake: greeting, options, and what is told of an export. Nothing of its content is touched. */

import * as nbd from '../nbd/protocol.js'
import { KiB, MiB } from '../util/units.js'
import { needsStructured, unitOf, type Check } from './check.js'
import { acknowledged, infosOf, type Examination } from './examination.js'
import type { OptionReply, RawClient } from './raw-client.js'

const NO_SUCH_EXPORT = 'no-such-export-of-nbd-remap'
const LONG = 100 * KiB

const typesOf = (replies: readonly OptionReply[]): number[] => replies.map(({ type }) => type)
const isOnly = (replies: readonly OptionReply[], ...types: number[]): boolean =>
  replies.length === 1 && types.includes(replies[0]?.type ?? 0)
const named = (replies: readonly OptionReply[]): string => `answered by reply types ${typesOf(replies).join(', ')}`
const isClosed = async (client: RawClient): Promise<boolean> => (await client.receiveAll()).length === 0
const isPowerOf2 = (size: number): boolean => size > 0 && Number.isInteger(Math.log2(size))

export const HANDSHAKE_CHECKS: readonly Check[] = [
  { name: 'greeting', section: 'Handshake', level: 'MUST', run: greeting },
  { name: 'client-flags', section: 'Client flags', level: 'MUST', run: clientFlags },
  { name: 'export-name', section: 'NBD_OPT_EXPORT_NAME', level: 'MUST', run: exportName, lacks: needsNoTls },
  { name: 'unknown-option', section: 'Option haggling', level: 'MUST', run: unknownOption },
  { name: 'abort', section: 'NBD_OPT_ABORT', level: 'MUST', run: abort },
  { name: 'list', section: 'NBD_OPT_LIST', level: 'MUST', run: list },
  { name: 'info-and-go', section: 'NBD_OPT_INFO and NBD_OPT_GO', level: 'MUST', run: infoAndGo },
  { name: 'malformed-info', section: 'NBD_OPT_INFO and NBD_OPT_GO', level: 'MUST', run: malformedInfo },
  { name: 'block-sizes', section: 'Block size constraints', level: 'MUST', run: blockSizes },
  { name: 'starttls', section: 'NBD_OPT_STARTTLS', level: 'MUST', run: startTls },
  {
    name: 'structured-reply',
    section: 'NBD_OPT_STRUCTURED_REPLY',
    level: 'SHOULD',
    run: structuredReply,
    lacks: needsStructured,
  },
  {
    name: 'list-contexts',
    section: 'NBD_OPT_LIST_META_CONTEXT',
    level: 'MUST',
    run: listContexts,
    lacks: needsContexts,
  },
  { name: 'set-contexts', section: 'NBD_OPT_SET_META_CONTEXT', level: 'MUST', run: setContexts, lacks: needsContexts },
  { name: 'transmission-flags', section: 'Transmission flags', level: 'MUST', run: transmissionFlags },
  { name: 'split-handshake', section: 'Handshake', level: 'MUST', run: splitHandshake },
  { name: 'broken-off', section: 'Terminating the handshake', level: 'MUST', run: brokenOff },
]

function needsNoTls(_: unknown, { tls }: { tls?: unknown }): string | undefined {
  return tls === undefined ? undefined : 'over TLS nothing is padded that could be seen'
}

function needsContexts({ contexts }: { contexts: readonly string[] }): string | undefined {
  return contexts.length > 0 ? undefined : 'no metadata contexts'
}

async function greeting(c: Examination): Promise<void> {
  const bytes = await (await c.connect()).receive(nbd.GREETING_LENGTH)
  c.must(
    bytes.toString('latin1', 0, 16) === 'NBDMAGICIHAVEOPT',
    'begin with NBDMAGIC and IHAVEOPT',
    bytes.toString('hex'),
  )
  const flags = bytes.readUInt16BE(16)
  c.must((flags & nbd.NBD_FLAG_FIXED_NEWSTYLE) !== 0, 'be fixed newstyle', `handshake flags ${flags}`)
  c.must((flags & ~3) === 0, 'set no handshake flag that does not exist', `handshake flags ${flags}`)
}

async function clientFlags(c: Examination): Promise<void> {
  for (const bit of [2, 7, 31]) {
    const client = await c.connect()
    await client.greet(2 ** bit + 1)
    // A server that goes on waits for an option now.
    client.send(nbd.encodeOption(nbd.NBD_OPT_LIST))
    c.must(await isClosed(client), `disconnect a client that sets a flag it does not know (bit ${bit})`, 'it went on')
  }
}

async function exportName(c: Examination): Promise<void> {
  for (const [flags, zeroes] of [
    [1, nbd.EXPORT_NAME_ZEROES],
    [3, 0],
  ] as const) {
    const client = await c.greeted(flags)
    client.send(nbd.encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from(c.target.exportName)))
    const answer = await client.receive(nbd.EXPORT_SIZE_LENGTH + zeroes)
    const { size } = nbd.decodeExportSize(answer)
    c.must(size === c.facts.size, 'tell the same size as by NBD_OPT_GO', `${size} instead of ${c.facts.size}`)
    const isPadded = answer.subarray(nbd.EXPORT_SIZE_LENGTH).equals(Buffer.alloc(zeroes))
    c.must(isPadded, `pad the answer with ${zeroes} zeroes for client flags ${flags}`, 'other bytes')
    c.must(await c.lives(client), 'enter the transmission phase then', 'a READ was not answered')
  }
  const client = await c.greeted()
  client.send(nbd.encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from(NO_SUCH_EXPORT)))
  const served = await client.receive(nbd.EXPORT_SIZE_LENGTH).catch(() => undefined)
  if (served === undefined) {
    c.must((await client.receiveAll()).length === 0, 'close without an answer when there is no such export', 'bytes')
  }
  // Else it takes any name, which it may.
}

async function unknownOption(c: Examination): Promise<void> {
  const client = await c.greeted()
  for (const option of [nbd.NBD_OPT_PEEK_EXPORT, 12, 0x7fff_ffff]) {
    for (const length of [0, 1, LONG]) {
      const replies = await client.option(option, Buffer.alloc(length, 'x'))
      c.must(
        replies.every((reply) => reply.option === option),
        'echo the option',
        `to option ${option}`,
      )
      c.must(
        isOnly(replies, nbd.NBD_REP_ERR_UNSUP, nbd.NBD_REP_ERR_TOO_BIG),
        `refuse option ${option} with ${length} bytes as unsupported`,
        named(replies),
      )
    }
  }
  c.must(await c.haggles(client), 'understand the option after one that it does not know', 'it did not')
}

async function abort(c: Examination): Promise<void> {
  for (const length of [0, 10]) {
    const client = await c.greeted()
    client.send(nbd.encodeOption(nbd.NBD_OPT_ABORT, Buffer.alloc(length)))
    const what = length === 0 ? 'acknowledge NBD_OPT_ABORT' : 'ignore data of NBD_OPT_ABORT, and acknowledge it'
    const demand = length === 0 ? c.must.bind(c) : c.should.bind(c)
    try {
      const { type } = await client.receiveOptionReply()
      demand(type === nbd.NBD_REP_ACK, what, `reply type ${type}`)
    } catch (error) {
      demand(false, what, String(error))
      continue
    }
    c.must(await isClosed(client), 'close after NBD_OPT_ABORT', 'more was sent')
  }
}

async function list(c: Examination): Promise<void> {
  const client = await c.greeted()
  const replies = await client.option(nbd.NBD_OPT_LIST)
  const last = replies.at(-1)?.type
  c.must(
    last === nbd.NBD_REP_ACK || last === nbd.NBD_REP_ERR_POLICY,
    'end a list with an acknowledgement, or refuse it by policy',
    named(replies),
  )
  const isListed = replies.slice(0, -1).every(({ type }) => type === nbd.NBD_REP_SERVER)
  c.must(isListed, 'send NBD_REP_SERVER for each export and nothing else', named(replies))
  for (const { data } of replies.slice(0, -1))
    c.must(
      Buffer.byteLength(nbd.decodeServerReply(data).name) <= nbd.NBD_MAX_STRING,
      'list names of 4096 bytes at most',
    )
  const refused = await client.option(nbd.NBD_OPT_LIST, Buffer.alloc(1))
  c.should(isOnly(refused, nbd.NBD_REP_ERR_INVALID), 'refuse NBD_OPT_LIST with data as invalid', named(refused))
  c.must(await c.haggles(client), 'understand the next option then', 'it did not')
}

async function infoAndGo(c: Examination): Promise<void> {
  for (const infos of [[], [1, 2, 3]]) {
    const client = await c.greeted()
    const info = await client.option(nbd.NBD_OPT_INFO, c.infoData(...infos))
    const go = await client.option(nbd.NBD_OPT_GO, c.infoData(...infos))
    const content = (replies: readonly OptionReply[]): string =>
      replies.map(({ type, data }) => `${type} ${data.toString('hex')}`).join('\n')
    c.must(
      content(info) === content(go),
      'answer NBD_OPT_GO as NBD_OPT_INFO before it',
      `${named(info)}, then ${named(go)}`,
    )
    c.must(
      infosOf(go).some(({ type }) => type === nbd.NBD_INFO_EXPORT),
      'send NBD_INFO_EXPORT',
      named(go),
    )
    c.must(await c.lives(client), 'enter the transmission phase after NBD_OPT_GO', 'a READ was not answered')
  }
  const client = await c.greeted()
  const unknown = await client.option(nbd.NBD_OPT_INFO, c.infoData(77, 0xffff))
  c.must(acknowledged(unknown), 'ignore unknown types of information', named(unknown))
}

async function malformedInfo(c: Examination): Promise<void> {
  for (const option of [nbd.NBD_OPT_INFO, nbd.NBD_OPT_GO]) {
    const client = await c.greeted()
    for (const hex of ['', '0000', '0000000a 6469736b 0000', '00000004 6469736b 0002 0003', 'fffffff0 00000000 0000']) {
      const replies = await client.option(option, Buffer.from(hex.replaceAll(' ', ''), 'hex'))
      c.must(
        isOnly(replies, nbd.NBD_REP_ERR_INVALID),
        `refuse malformed data of option ${option} as invalid: '${hex}'`,
        named(replies),
      )
    }
    const unknown = await client.option(nbd.NBD_OPT_INFO, nbd.encodeInfoRequest({ name: NO_SUCH_EXPORT, infos: [] }))
    // A server that takes any name has it.
    if (!acknowledged(unknown)) {
      c.must(
        unknown.at(-1)?.type === nbd.NBD_REP_ERR_UNKNOWN,
        'answer NBD_REP_ERR_UNKNOWN when there is no such export',
        named(unknown),
      )
      c.should(unknown.length === 1, 'tell nothing of an export that it does not have', named(unknown))
    }
    c.must(await c.haggles(client), 'understand the next option then', 'it did not')
  }
}

async function blockSizes(c: Examination): Promise<void> {
  const client = await c.greeted()
  const replies = await client.option(nbd.NBD_OPT_INFO, c.infoData(nbd.NBD_INFO_BLOCK_SIZE))
  const sizes = infosOf(replies).find(({ type }) => type === nbd.NBD_INFO_BLOCK_SIZE)
  c.should(sizes !== undefined, 'tell its block sizes when asked', named(replies))
  if (sizes?.type !== nbd.NBD_INFO_BLOCK_SIZE) return
  const { minimum, preferred, maximum } = sizes
  const told = `${minimum}, ${preferred}, ${maximum}`
  c.must(isPowerOf2(minimum) && minimum <= 64 * KiB, 'have a power of 2 up to 64 KiB as minimum block size', told)
  c.must(
    isPowerOf2(preferred) && preferred >= Math.max(minimum, 512),
    'prefer a power of 2, of at least 512 and the minimum',
    told,
  )
  c.must(maximum >= preferred, 'have a maximum of at least the preferred size', told)
  c.should(maximum >= MiB, 'have a maximum of at least 1 MiB', told)
  c.should(
    c.facts.size % minimum === 0,
    'have a size that is a multiple of the minimum',
    `${c.facts.size} bytes, ${told}`,
  )
}

async function startTls(c: Examination): Promise<void> {
  const client = await c.greeted()
  if (c.target.tls !== undefined) {
    const replies = await client.option(nbd.NBD_OPT_STARTTLS)
    c.must(isOnly(replies, nbd.NBD_REP_ERR_INVALID), 'refuse a second NBD_OPT_STARTTLS as invalid', named(replies))
    return
  }
  const withData = await client.option(nbd.NBD_OPT_STARTTLS, Buffer.alloc(1))
  c.must(!acknowledged(withData), 'refuse NBD_OPT_STARTTLS with data', named(withData))
  for (const data of [Buffer.alloc(0), c.infoData()]) {
    const replies = await client.option(nbd.NBD_OPT_INFO, data)
    c.must(
      !typesOf(replies).includes(nbd.NBD_REP_ERR_TLS_REQD),
      'not demand TLS of a client that was served without it',
      named(replies),
    )
  }
}

async function structuredReply(c: Examination): Promise<void> {
  const client = await c.greeted()
  const withData = await client.option(nbd.NBD_OPT_STRUCTURED_REPLY, Buffer.alloc(1))
  c.should(
    isOnly(withData, nbd.NBD_REP_ERR_INVALID),
    'refuse NBD_OPT_STRUCTURED_REPLY with data as invalid',
    named(withData),
  )
  const replies = await client.option(nbd.NBD_OPT_STRUCTURED_REPLY)
  c.must(isOnly(replies, nbd.NBD_REP_ACK), 'acknowledge NBD_OPT_STRUCTURED_REPLY after that', named(replies))
  const again = await client.option(nbd.NBD_OPT_STRUCTURED_REPLY)
  c.must(
    isOnly(again, nbd.NBD_REP_ACK, nbd.NBD_REP_ERR_INVALID),
    'acknowledge it again, or refuse it as invalid',
    named(again),
  )
}

const contextData = (c: Examination, ...queries: string[]): Buffer =>
  nbd.encodeMetaContextRequest({ name: c.target.exportName, queries })
const contextsOf = (replies: readonly OptionReply[]): nbd.MetaContext[] =>
  replies.filter(({ type }) => type === nbd.NBD_REP_META_CONTEXT).map(({ data }) => nbd.decodeMetaContext(data))

async function listContexts(c: Examination): Promise<void> {
  const client = await c.greeted()
  await client.option(nbd.NBD_OPT_STRUCTURED_REPLY)
  const listed = async (...queries: string[]): Promise<OptionReply[]> =>
    client.option(nbd.NBD_OPT_LIST_META_CONTEXT, contextData(c, ...queries))
  const all = await listed()
  c.must(acknowledged(all), 'end a list of contexts with an acknowledgement', named(all))
  c.should(
    contextsOf(all).every(({ id }) => id === 0),
    'list contexts with 0 as their id',
    JSON.stringify(contextsOf(all)),
  )
  const unknown = await listed('no-such-namespace:x')
  c.must(
    acknowledged(unknown) && contextsOf(unknown).length === 0,
    'ignore queries in a namespace that it does not know',
    named(unknown),
  )
  if (c.facts.contexts.includes(nbd.BASE_ALLOCATION)) {
    const base = contextsOf(await listed('base:')).map(({ name }) => name)
    c.must(base.includes(nbd.BASE_ALLOCATION), 'list all contexts of base: when asked for base:', base.join(' '))
  }
  for (const option of [nbd.NBD_OPT_LIST_META_CONTEXT, nbd.NBD_OPT_SET_META_CONTEXT]) {
    const cut = contextData(c, nbd.BASE_ALLOCATION)
    for (const data of [cut.subarray(0, cut.length - 3), Buffer.concat([cut, Buffer.alloc(3)])]) {
      const replies = await client.option(option, data)
      c.must(
        isOnly(replies, nbd.NBD_REP_ERR_INVALID),
        `refuse malformed data of option ${option} as invalid (${data.length - cut.length} bytes too many)`,
        named(replies),
      )
    }
  }
  c.must(await c.haggles(client), 'understand the next option then', 'it did not')
}

async function setContexts(c: Examination): Promise<void> {
  const [first = ''] = c.facts.contexts
  const plain = await c.greeted()
  const early = await plain.option(nbd.NBD_OPT_SET_META_CONTEXT, contextData(c, first))
  c.should(isOnly(early, nbd.NBD_REP_ERR_INVALID), 'refuse to set contexts before structured replies', named(early))
  const client = await c.greeted()
  await client.option(nbd.NBD_OPT_STRUCTURED_REPLY)
  const set = await client.option(nbd.NBD_OPT_SET_META_CONTEXT, contextData(c, ...c.facts.contexts))
  const ids = contextsOf(set).map(({ id }) => id)
  c.must(acknowledged(set) && ids.length === c.facts.contexts.length, 'select the contexts that it lists', named(set))
  c.must(new Set(ids).size === ids.length, 'give each its own id', ids.join(' '))
  const none = await client.option(nbd.NBD_OPT_SET_META_CONTEXT, contextData(c, 'base:', 'base:no-such-context'))
  c.must(
    acknowledged(none) && contextsOf(none).length === 0,
    'select nothing for base: or an unknown context',
    named(none),
  )
  await client.option(nbd.NBD_OPT_GO, c.infoData())
  client.style = 'structured'
  const { error } = await client.ask(nbd.NBD_CMD_BLOCK_STATUS, { length: unitOf(c.facts) })
  c.must(error !== 0, 'forget the contexts that were selected before', 'NBD_CMD_BLOCK_STATUS succeeded')
}

async function transmissionFlags(c: Examination): Promise<void> {
  const { flags } = c.facts
  const told = `flags ${flags.toString(2)}`
  c.must(c.has(nbd.NBD_FLAG_HAS_FLAGS), 'set NBD_FLAG_HAS_FLAGS', told)
  c.must(
    !c.has(nbd.NBD_FLAG_SEND_FAST_ZERO) || c.has(nbd.NBD_FLAG_SEND_WRITE_ZEROES),
    'offer FAST_ZERO only with WRITE_ZEROES',
    told,
  )
  const isReadOnly = c.has(nbd.NBD_FLAG_READ_ONLY)
  c.should(isReadOnly || c.has(nbd.NBD_FLAG_SEND_FLUSH), 'offer FLUSH on an export that can be written', told)
  c.should(isReadOnly || c.has(nbd.NBD_FLAG_SEND_FUA), 'offer FUA on an export that can be written', told)
  const plain = infosOf(await (await c.greeted()).option(nbd.NBD_OPT_INFO, c.infoData()))
  const found = plain.find((info) => info.type === nbd.NBD_INFO_EXPORT)
  const plainFlags = found?.transmissionFlags ?? 0
  c.must((plainFlags & nbd.NBD_FLAG_SEND_DF) === 0, 'offer DF only after structured replies', plainFlags.toString(2))
}

async function splitHandshake(c: Examination): Promise<void> {
  if (c.target.tls !== undefined) return
  const client = await c.connect()
  await client.receive(nbd.GREETING_LENGTH)
  const bytes = Buffer.concat([nbd.encodeClientFlags(3), nbd.encodeOption(nbd.NBD_OPT_GO, c.infoData())])
  for (const byte of bytes) {
    client.send(Buffer.of(byte))
    await new Promise((resolve) => setImmediate(resolve))
  }
  const last = async (): Promise<number> => {
    for (;;) {
      const { type } = await client.receiveOptionReply()
      if (type === nbd.NBD_REP_ACK || type >= nbd.NBD_REP_FLAG_ERROR) return type
    }
  }
  c.must((await last()) === nbd.NBD_REP_ACK, 'understand a handshake that arrives byte by byte', 'it was refused')
}

async function brokenOff(c: Examination): Promise<void> {
  const option = nbd.encodeOption(nbd.NBD_OPT_GO, c.infoData())
  const parts = [
    Buffer.alloc(0),
    nbd.encodeClientFlags(3),
    Buffer.concat([nbd.encodeClientFlags(3), option.subarray(0, 9)]),
  ]
  for (const part of [...parts, Buffer.concat([nbd.encodeClientFlags(3), option.subarray(0, -1)])]) {
    const client = await c.connect()
    client.send(part)
    client.socket.destroy()
  }
  c.must(await c.lives(await c.begin()), 'go on serving when clients leave in the middle of a handshake', 'it did not')
}
