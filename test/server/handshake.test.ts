import t, { type Test } from 'tap'
import { ByteReader } from '../../src/nbd/byte-reader.js'
import * as nbd from '../../src/nbd/protocol.js'
import { Handshake, type HandshakeResult } from '../../src/server/handshake.js'
import { KiB, MiB } from '../../src/util/units.js'
import { MemoryDevice } from '../support/memory-device.js'
import { serve } from '../support/nbd-server.js'

const disk = {
  name: 'main',
  description: 'the disk',
  device: new MemoryDevice(MiB),
  readOnly: false,
  contexts: [{ name: 'test:state', extents: () => [] }],
}
const other = { name: 'other', description: '', device: new MemoryDevice(512), readOnly: true }
const LIMITS = { optionsMax: 10, optionLengthMax: 8 * KiB }

/** A handshake fed with all of `input` at once, or in pieces that end at the offsets `cuts`. */
function shake(input: (Buffer | string)[], cuts: number[] = []): { sent: string; result: HandshakeResult | undefined } {
  const bytes = Buffer.concat(input.map((part) => (typeof part === 'string' ? Buffer.from(part, 'hex') : part)))
  const sent: Buffer[] = []
  const handshake = new Handshake([disk, other], LIMITS, (data) => void sent.push(data))
  const reader = new ByteReader()
  let result: HandshakeResult | undefined
  let start = 0
  for (const end of [...cuts, bytes.length]) {
    reader.push(bytes.subarray(start, end))
    start = end
    result ??= handshake.advance(reader)
  }
  return { sent: Buffer.concat(sent).toString('hex'), result }
}

const FLAGS = '00000003'
const GREETING = '4e42444d4147494349484156454f50540003'
const optionHex = (option: number, data = ''): string =>
  `49484156454f5054${option.toString(16).padStart(8, '0')}${(data.length / 2).toString(16).padStart(8, '0')}${data}`
const replyHex = (option: number, type: string, data = ''): string =>
  `0003e889045565a9${option.toString(16).padStart(8, '0')}${type}${(data.length / 2).toString(16).padStart(8, '0')}${data}`
const text = (message: string): string => Buffer.from(message).toString('hex')
const ACK = '00000001'
const INFO = '00000003'
const [ERR_UNSUP, ERR_INVALID, ERR_UNKNOWN, ERR_TOO_BIG] = ['80000001', '80000003', '80000006', '80000009']
const GO_MAIN = '000000046d61696e'
const EXPORT_INFO = '000000000000001000000d6d'

/** Answers to `options` after the greeting. */
function answers(t: Test, options: string[], ...expected: string[]): HandshakeResult | undefined {
  const { sent, result } = shake([FLAGS, ...options])
  t.equal(sent, GREETING + expected.join(''))
  return result
}

void t.test('the server greets before it has heard anything', (t) => {
  t.same(shake([]), { sent: GREETING, result: undefined })
  t.end()
})

void t.test('unknown client flags end the connection', (t) => {
  t.match(shake(['00000004']).result, { kind: 'close', reason: 'unknown client flags 0x4' })
  t.match(shake(['80000003']).result, { kind: 'close', reason: 'unknown client flags 0x80000000' })
  for (const flags of ['00000000', '00000001', '00000002', FLAGS]) t.equal(shake([flags]).result, undefined)
  t.end()
})

void t.test('GO sends the export and what else was asked for, then the transmission phase begins', (t) => {
  const result = answers(
    t,
    [optionHex(7, `${GO_MAIN}0004000300010002ffff`)],
    replyHex(7, INFO, EXPORT_INFO),
    replyHex(7, INFO, `0001${text('main')}`),
    replyHex(7, INFO, `0002${text('the disk')}`),
    replyHex(7, INFO, '0003000000010000100004000000'),
    replyHex(7, ACK),
  )
  t.match(result, { kind: 'transmission', export: disk, negotiated: { style: 'simple', contexts: [] } })
  t.end()
})

void t.test('INFO answers as GO does and stays in the handshake', (t) => {
  const result = answers(
    t,
    [optionHex(6, `${GO_MAIN}0000`), optionHex(7, `${GO_MAIN}0000`)],
    replyHex(6, INFO, EXPORT_INFO),
    replyHex(6, ACK),
    replyHex(7, INFO, EXPORT_INFO),
    replyHex(7, ACK),
  )
  t.match(result, { kind: 'transmission' })
  t.end()
})

void t.test('the empty name is the first export', (t) => {
  const name = replyHex(7, INFO, `0001${text('main')}`)
  const result = answers(t, [optionHex(7, '0000000000010001')], replyHex(7, INFO, EXPORT_INFO), name, replyHex(7, ACK))
  t.match(result, { export: disk })
  t.end()
})

void t.test('structured replies are negotiated, and DF with them', (t) => {
  const result = answers(
    t,
    [optionHex(8), optionHex(8), optionHex(7, `${GO_MAIN}0000`)],
    replyHex(8, ACK),
    replyHex(8, ACK),
    replyHex(7, INFO, '000000000000001000000ded'),
    replyHex(7, ACK),
  )
  t.match(result, { negotiated: { style: 'structured' } })
  t.end()
})

void t.test('EXPORT_NAME answers size, flags and zeroes unless these were declined', (t) => {
  const option = optionHex(1, text('main'))
  t.equal(shake([FLAGS, option]).sent, `${GREETING}00000000001000000d6d`)
  const padded = shake(['00000001', option])
  t.equal(padded.sent, `${GREETING}00000000001000000d6d${'00'.repeat(124)}`)
  t.match(padded.result, { kind: 'transmission', export: disk })
  t.match(shake([FLAGS, optionHex(1)]).result, { export: disk }, 'the default export')
  t.equal(shake([FLAGS, optionHex(1, text('other'))]).sent, `${GREETING}0000000000000200050f`, 'a read-only one')
  t.end()
})

void t.test('EXPORT_NAME with a name that cannot be served ends the connection without an answer', (t) => {
  for (const name of [text('nothing'), '6d00', 'ff', 'aa'.repeat(5000), 'aa'.repeat(9000)]) {
    const { sent, result } = shake([FLAGS, optionHex(1, name)])
    t.equal(sent, GREETING)
    t.match(result, { kind: 'close' })
  }
  t.end()
})

void t.test('LIST names all exports', (t) => {
  answers(
    t,
    [optionHex(3)],
    replyHex(3, '00000002', `${GO_MAIN}${text('the disk')}`),
    replyHex(3, '00000002', `00000005${text('other')}`),
    replyHex(3, ACK),
  )
  t.end()
})

void t.test('options without data refuse data, and the next option is understood', (t) => {
  const refused = (option: number, name: string) => replyHex(option, ERR_INVALID, text(`${name} has no data`))
  answers(
    t,
    [optionHex(3, 'aa'), optionHex(8, 'bbbb'), optionHex(6, `${GO_MAIN}0000`)],
    refused(3, 'NBD_OPT_LIST'),
    refused(8, 'NBD_OPT_STRUCTURED_REPLY'),
    replyHex(6, INFO, EXPORT_INFO),
    replyHex(6, ACK),
  )
  t.end()
})

void t.test('ABORT is acknowledged, whatever its data, before the connection ends', (t) => {
  for (const data of ['', 'aabb']) {
    t.match(answers(t, [optionHex(2, data)], replyHex(2, ACK)), { kind: 'close', reason: 'aborted by the client' })
  }
  t.end()
})

void t.test('options that are unknown or not supported are answered so, and the next one is understood', (t) => {
  const unsupported: [number, string][] = [
    [4, 'NBD_OPT_PEEK_EXPORT'],
    [12, 'unknown option 12'],
    [0xffffffff, 'unknown option 4294967295'],
  ]
  for (const [option, name] of unsupported) {
    for (const data of ['', 'aabbcc']) {
      const error = replyHex(option, ERR_UNSUP, text(`${name} is not supported`))
      t.match(answers(t, [optionHex(option, data), optionHex(2)], error, replyHex(2, ACK)), { kind: 'close' })
    }
  }
  t.end()
})

void t.test('an unknown export is an error without information', (t) => {
  for (const option of [6, 7]) {
    const error = replyHex(option, ERR_UNKNOWN, text('there is no export "nothing" here'))
    answers(t, [optionHex(option, `00000007${text('nothing')}0001 0003`.replace(' ', ''))], error)
  }
  t.end()
})

void t.test('the answer to an unknown export stays short however long its name', (t) => {
  const name = text('\u0001'.repeat(4000))
  const { sent } = shake([FLAGS, optionHex(6, `00000fa0${name}0000`)])
  t.ok(sent.length / 2 < 1000)
  t.equal(sent.slice(GREETING.length + 24, GREETING.length + 32), ERR_UNKNOWN)
  t.end()
})

void t.test('malformed INFO and GO are invalid and the handshake goes on', (t) => {
  const malformed = ['', '00', '00000004', '000000056d61696e', `${GO_MAIN}00`, `${GO_MAIN}0001`, `${GO_MAIN}000000`]
  const strings = ['00000001000000', '00000001ff0000', `00001001${'61'.repeat(4097)}0000`]
  for (const data of [...malformed, ...strings]) {
    for (const option of [6, 7]) {
      const { sent, result } = shake([FLAGS, optionHex(option, data), optionHex(8)])
      t.equal(sent.slice(GREETING.length + 24, GREETING.length + 32), ERR_INVALID, `${option} ${data.slice(0, 30)}`)
      t.ok(sent.endsWith(replyHex(8, ACK)))
      t.equal(result, undefined)
    }
  }
  t.end()
})

void t.test('option data beyond the limit is skipped and answered', (t) => {
  const data = 'aa'.repeat(8 * KiB + 1)
  for (const option of [6, 7, 9, 10]) {
    const error = replyHex(option, ERR_TOO_BIG, text('8193 bytes of option data are too many'))
    answers(t, [optionHex(option, data), optionHex(8)], error, replyHex(8, ACK))
  }
  t.end()
})

void t.test('options that want no data or are unknown say so however long the data is', (t) => {
  const data = 'aa'.repeat(8 * KiB + 1)
  answers(
    t,
    [optionHex(3, data), optionHex(8, data), optionHex(11, data), optionHex(99, data), optionHex(2, data)],
    replyHex(3, ERR_INVALID, text('NBD_OPT_LIST has no data')),
    replyHex(8, ERR_INVALID, text('NBD_OPT_STRUCTURED_REPLY has no data')),
    replyHex(11, ERR_INVALID, text('NBD_OPT_EXTENDED_HEADERS has no data')),
    replyHex(99, ERR_UNSUP, text('unknown option 99 is not supported')),
    replyHex(2, ACK),
  )
  t.end()
})

const META_CONTEXT = '00000004'
const queries = (name: string, ...list: string[]): string =>
  nbd.encodeMetaContextRequest({ name, queries: list }).toString('hex')
const context = (option: number, id: number, name: string): string =>
  replyHex(option, META_CONTEXT, `0000000${id}${text(name)}`)

void t.test('LIST_META_CONTEXT lists all contexts, those of a namespace, or one', (t) => {
  const list = (...wanted: string[]) => [optionHex(8), optionHex(9, queries('main', ...wanted))]
  const [base, test] = [context(9, 0, 'base:allocation'), context(9, 0, 'test:state')]
  const ack = replyHex(8, ACK)
  answers(t, list(), ack, base, test, replyHex(9, ACK))
  answers(t, list('base:'), ack, base, replyHex(9, ACK))
  answers(t, list('test:', 'base:allocation', 'base:'), ack, base, test, replyHex(9, ACK))
  answers(t, list('base:dirty', 'other:', 'test', ''), ack, replyHex(9, ACK))
  t.end()
})

void t.test('SET_META_CONTEXT selects contexts named in full, with ids of their own', (t) => {
  const go = optionHex(7, `${GO_MAIN}0000`)
  const set = (...wanted: string[]) => [optionHex(8), optionHex(10, queries('main', ...wanted))]
  const done = [replyHex(7, INFO, '000000000000001000000ded'), replyHex(7, ACK)]
  const selected = (...wanted: string[]) => {
    const names = ['base:allocation', 'test:state'].filter((name) => wanted.includes(name))
    const replies = names.map((name, i) => context(10, i + 1, name))
    const result = answers(t, [...set(...wanted), go], replyHex(8, ACK), ...replies, replyHex(10, ACK), ...done)
    t.match(result, { negotiated: { contexts: names.map((name, i) => ({ id: i + 1, context: { name } })) } })
  }
  selected('base:allocation')
  selected('test:state', 'base:allocation', 'test:state')
  selected('base:', 'base:other', 'unknown:', 'test:')
  selected()
  t.end()
})

void t.test('what was selected is forgotten by every later SET_META_CONTEXT, and counts for one name only', (t) => {
  const structured = optionHex(8)
  const set = optionHex(10, queries('main', 'base:allocation'))
  const go = (name: string) => optionHex(7, nbd.encodeInfoRequest({ name, infos: [] }).toString('hex'))
  const contexts = (...options: string[]) => {
    const { result } = shake([FLAGS, structured, ...options])
    return result?.kind === 'transmission' ? result.negotiated.contexts.length : undefined
  }
  t.equal(contexts(set, go('main')), 1)
  t.equal(contexts(set, optionHex(1, text('main'))), 1)
  t.equal(contexts(set, optionHex(6, `${GO_MAIN}0000`), optionHex(9, queries('main')), go('main')), 1)
  t.equal(contexts(set, go('other')), 0)
  t.equal(contexts(set, go('')), 0, 'the same export under another name')
  const failing = [queries('main'), queries('nothing', 'base:allocation'), 'ffffffff', 'aa'.repeat(9000)]
  for (const data of failing) t.equal(contexts(set, optionHex(10, data), go('main')), 0, data.slice(0, 20))
  t.end()
})

void t.test('contexts come after structured replies or extended headers', (t) => {
  const refused = (option: number) =>
    replyHex(option, ERR_INVALID, text('negotiate structured replies or extended headers first'))
  for (const option of [9, 10]) {
    answers(t, [optionHex(option, queries('main', 'base:allocation'))], refused(option))
    const unknown = replyHex(option, ERR_UNKNOWN, text('there is no export "nothing" here'))
    answers(t, [optionHex(11), optionHex(option, queries('nothing'))], replyHex(11, ACK), unknown)
    const malformed = [
      '',
      '0000',
      GO_MAIN,
      `${GO_MAIN}00000001`,
      `${GO_MAIN}00000001ffffffff61`,
      `${GO_MAIN}0000000000`,
    ]
    for (const data of malformed) {
      const { sent } = shake([FLAGS, optionHex(8), optionHex(option, data), optionHex(8)])
      const at = GREETING.length + 40
      t.equal(sent.slice(at + 24, at + 32), ERR_INVALID)
      t.ok(sent.endsWith(replyHex(8, ACK)))
    }
  }
  t.end()
})

void t.test('extended headers take precedence over structured replies and rule out EXPORT_NAME', (t) => {
  const flags = '000000000000001000000ded'
  const result = answers(
    t,
    [optionHex(8), optionHex(11), optionHex(11), optionHex(8), optionHex(7, `${GO_MAIN}0000`)],
    replyHex(8, ACK),
    replyHex(11, ACK),
    replyHex(11, ACK),
    replyHex(8, '8000000a', text('extended headers are negotiated already')),
    replyHex(7, INFO, flags),
    replyHex(7, ACK),
  )
  t.match(result, { negotiated: { style: 'extended' } })
  t.match(answers(t, [optionHex(11), optionHex(1, text('main'))], replyHex(11, ACK)), { kind: 'close' })
  const set = optionHex(10, queries('main', 'base:allocation'))
  answers(
    t,
    [optionHex(11), set, optionHex(6, `${GO_MAIN}0000`)],
    replyHex(11, ACK),
    context(10, 1, 'base:allocation'),
    replyHex(10, ACK),
    replyHex(6, INFO, '000000000000001000001ded'),
    replyHex(6, ACK),
  )
  t.end()
})

void t.test('answers stop while the client does not take them', (t) => {
  const reader = new ByteReader()
  const sent: Buffer[] = []
  let isFull = false
  const handshake = new Handshake([disk], LIMITS, (data) => {
    sent.push(data)
    isFull = true
  })
  reader.push(Buffer.concat([FLAGS, optionHex(3), optionHex(8)].map((hex) => Buffer.from(hex, 'hex'))))
  for (let answered = 1; answered < 4; answered++) {
    isFull = false
    t.equal(
      handshake.advance(reader, () => isFull),
      undefined,
    )
  }
  t.equal(sent.length, 4, 'the greeting, an export, and two acknowledgements')
  t.equal(reader.available, 0)
  t.end()
})

void t.test('a wrong option magic or too many options end the connection', (t) => {
  t.match(shake([FLAGS, '00'.repeat(16)]).result, { kind: 'close', reason: 'bad option magic 0x0' })
  const many = Array.from({ length: 11 }, () => optionHex(8))
  t.equal(shake([FLAGS, ...many.slice(0, 10)]).result, undefined)
  t.match(shake([FLAGS, ...many]).result, { kind: 'close', reason: 'more than 10 options' })
  t.end()
})

void t.test('a handshake is the same wherever its bytes are cut', (t) => {
  const tooBig = optionHex(99, '55'.repeat(8 * KiB + 3)).slice(0, 60)
  const input = [FLAGS, optionHex(8), optionHex(99, 'aabb'), optionHex(3), optionHex(7, `${GO_MAIN}00010003`)]
  const whole = shake(input)
  t.match(whole.result, { kind: 'transmission' })
  const length = input.join('').length / 2
  for (let cut = 0; cut <= length; cut++) t.same(shake(input, [cut]), whole, `cut at ${cut}`)
  const everywhere = Array.from({ length }, (_, i) => i)
  t.same(shake(input, everywhere), whole, 'byte by byte')
  t.equal(shake([FLAGS, tooBig]).result, undefined, 'skipping goes on')
  t.end()
})

void t.test(
  'over a socket: the last answer of a handshake that ends is received, then the socket closes',
  async (t) => {
    const { connect, server } = await serve(t)
    const client = await connect()
    await client.greet()
    client.send(nbd.encodeOption(nbd.NBD_OPT_ABORT), 'aaaaaaaa')
    t.equal((await client.receiveAll()).toString('hex'), replyHex(2, ACK))
    t.same(server.clients, [])
  },
)

void t.test('over a socket: a wrong client flag closes without an answer', async (t) => {
  const { connect } = await serve(t)
  const client = await connect()
  await client.greet(0x40)
  t.equal((await client.receiveAll()).length, 0)
})

void t.test('a handshake that takes too long is dropped, a client past it is not', async (t) => {
  const { connect, server, lines } = await serve(t, { limits: { handshakeTimeoutMs: 500 } })
  const fast = await (await connect()).go()
  const slow = await connect()
  await slow.greet()
  slow.send('4948')
  t.equal((await slow.receiveAll()).length, 0)
  t.match(lines.at(-1), /client 2 .* dropped: no end of the handshake within 500 ms/)
  fast.request(nbd.NBD_CMD_FLUSH)
  t.equal((await fast.receiveSimpleReply()).error, 0)
  t.equal(server.clients.length, 1)
})
