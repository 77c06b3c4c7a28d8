/**
 * What a client could send: sessions that are right in most of their parts, and the same damaged. A session is bytes and
 * nothing else; who sends them, in which pieces, and whether anybody reads the answers is decided in client.ts.
 */
import * as nbd from '../../src/nbd/protocol.js'
import type { Random } from '../../src/util/random.js'
import { KiB, MiB } from '../../src/util/units.js'

/** What the server under test has. */
export interface Target {
  readonly exportName: string
  /** Of the export, in bytes. */
  readonly size: number
}

type Style = 'compact' | 'extended'

const QUERIES = ['base:allocation', 'nbd-remap:state', 'base:', 'nbd-remap:', 'x-y:z', '', 'q'.repeat(4097)]
/** Options that neither end the handshake nor begin TLS. */
const NOT_LAST = [3, 4, 6, 8, 9, 10, 11, 12, 2 ** 31]
/** Places where arithmetic goes wrong. */
const EDGES = [0, 1, 2, 27, 28, 31, 32, 511, 512, 4096, 65_535, 65_536, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]

export class SessionMaker {
  /** Requests in all sessions so far, as they were before any damage. */
  requests = 0
  readonly #random: Random
  readonly #target: Target
  /** An earlier one, to splice with. */
  #last: Buffer = Buffer.alloc(0)

  constructor(random: Random, target: Target) {
    this.#random = random
    this.#target = target
  }

  /** From the client's flags on. */
  session(): Buffer {
    const random = this.#random
    if (random.chance(3)) return random.bytes(random.below(500))
    const flags = nbd.encodeClientFlags(random.chance(95) ? random.below(4) : random.uint32())
    return this.#damaged(Buffer.concat([flags, ...this.#fromOptions()]))
  }

  /** From the options on, as it continues after NBD_OPT_STARTTLS. */
  continuation(): Buffer {
    return this.#damaged(Buffer.concat(this.#fromOptions()))
  }

  /** A few options after which there are still options, which may be right or not. */
  options(): Buffer {
    return this.#options(() => this.#random.pick(NOT_LAST))
  }

  #options(any: () => number): Buffer {
    return Buffer.concat(Array.from({ length: this.#random.below(6) }, () => this.#option(any())))
  }

  #fromOptions(): Buffer[] {
    const random = this.#random
    const style = random.chance(40) ? 'extended' : 'compact'
    const parts = random.chance(40) ? [this.#options(() => this.#anyOption())] : []
    parts.push(...this.#negotiation(style))
    if (random.chance(10)) return parts
    const name = random.chance(90) ? this.#target.exportName : this.#name()
    const go = nbd.encodeOption(nbd.NBD_OPT_GO, nbd.encodeInfoRequest({ name, infos: [] }))
    parts.push(random.chance(90) ? go : nbd.encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from(name)))
    for (let i = random.below(20); i > 0; i--) parts.push(this.#request(style))
    if (random.chance(30)) parts.push(nbd.encodeRequest({ flags: 0, type: nbd.NBD_CMD_DISC, cookie: 0n, ...NOWHERE }))
    return parts
  }

  /** Most of them leave the rest of the session its meaning. */
  #anyOption(): number {
    const random = this.#random
    if (random.chance(85)) return random.pick(NOT_LAST)
    return random.chance(90) ? random.below(13) : random.uint32()
  }

  /** What a decent client would send first. */
  #negotiation(style: Style): Buffer[] {
    const random = this.#random
    const parts: Buffer[] = []
    if (random.chance(60)) parts.push(nbd.encodeOption(nbd.NBD_OPT_STRUCTURED_REPLY))
    if (style === 'extended') parts.push(nbd.encodeOption(nbd.NBD_OPT_EXTENDED_HEADERS))
    if (random.chance(60)) {
      const request = { name: this.#target.exportName, queries: ['base:allocation', 'nbd-remap:state'] }
      parts.push(nbd.encodeOption(nbd.NBD_OPT_SET_META_CONTEXT, nbd.encodeMetaContextRequest(request)))
    }
    return parts
  }

  #name(): string {
    return this.#random.pick([this.#target.exportName, '', 'readonly', 'other', 'x'.repeat(5000), '\0', '\u{1f4be}'])
  }

  #option(option: number): Buffer {
    const random = this.#random
    const name = this.#name()
    const queries = Array.from({ length: random.below(4) }, () => random.pick(QUERIES))
    const contexts = nbd.encodeMetaContextRequest({ name, queries })
    const data = random.pick([
      Buffer.alloc(0),
      Buffer.alloc(0),
      nbd.encodeInfoRequest({ name, infos: [random.below(6), random.below(65536)] }),
      contexts,
      contexts.subarray(0, random.below(contexts.length + 1)),
      random.bytes(random.below(100)),
      Buffer.alloc(random.below(200 * KiB)),
    ])
    return nbd.encodeOption(option, data)
  }

  #length(): number {
    const { size } = this.#target
    if (this.#random.chance(50)) return this.#random.below(this.#random.pick([600, 5000, 70_000]))
    return this.#random.pick([0, 1, 511, 512, 4096, 70_000, MiB, size - 1, size, size + 1, 2 ** 31, 2 ** 32 - 1])
  }

  #payload(type: number): Buffer {
    const random = this.#random
    if (type !== nbd.NBD_CMD_BLOCK_STATUS) return Buffer.alloc(random.below(random.pick([5000, 5000, 500_000])), 'w')
    const contextIds = Array.from({ length: random.below(4) }, () => random.below(4))
    return nbd.encodeBlockStatusPayload({ length: this.#length(), contextIds })
  }

  #request(style: Style): Buffer {
    const random = this.#random
    this.requests++
    const type = random.chance(90) ? random.pick([0, 1, 3, 4, 5, 6, 7, 8]) : random.pick([2, 9, random.below(65536)])
    const bits = random.chance(60) ? 0 : random.pick([1, 2, 4, 8, 16, 32, 3, 19, random.below(65536)])
    const offset = random.chance(70) ? random.below(this.#target.size) : random.pick([this.#length(), 2 ** 52, 2 ** 60])
    const fields = { type, offset, cookie: BigInt(random.uint32()) }
    const isWrite = type === nbd.NBD_CMD_WRITE
    if (style === 'compact') {
      const payload = isWrite ? this.#payload(type) : Buffer.alloc(0)
      const length = isWrite ? payload.length : this.#length()
      return Buffer.concat([nbd.encodeRequest({ ...fields, flags: bits, length }), payload])
    }
    const hasPayload = random.chance(isWrite ? 95 : type === nbd.NBD_CMD_BLOCK_STATUS ? 50 : 5)
    const payload = hasPayload ? this.#payload(type) : Buffer.alloc(0)
    const flags = hasPayload ? bits | nbd.NBD_CMD_FLAG_PAYLOAD_LEN : bits & ~nbd.NBD_CMD_FLAG_PAYLOAD_LEN
    const length = hasPayload ? payload.length : random.pick([this.#length(), 2 ** 40, 2 ** 53])
    return Buffer.concat([nbd.encodeExtendedRequest({ ...fields, flags, length }), payload])
  }

  /** Two of three stay as they are. */
  #damaged(session: Buffer): Buffer {
    const random = this.#random
    let damaged = session
    for (let i = random.chance(33) ? 1 + random.below(4) : 0; i > 0; i--) damaged = this.#damage(damaged)
    this.#last = session
    return damaged
  }

  #damage(session: Buffer): Buffer {
    const random = this.#random
    if (session.length < 8) return session
    const [start = 0, end = 0] = random.sample(2, session.length).sort((a, b) => a - b)
    const copy = Buffer.from(session)
    switch (random.below(7)) {
      case 0:
        copy[start] = random.below(256)
        return copy
      case 1:
        copy.writeUInt32BE(random.pick(EDGES), Math.min(start, copy.length - 4))
        return copy
      case 2:
        return Buffer.concat([session.subarray(0, start), session.subarray(end)])
      case 3:
        return Buffer.concat([session.subarray(0, end), session.subarray(start)])
      case 4:
        return Buffer.concat([session.subarray(0, start), random.bytes(random.below(64)), session.subarray(start)])
      case 5:
        return session.subarray(0, end)
      default:
        return Buffer.concat([session.subarray(0, start), this.#last.subarray(random.below(this.#last.length + 1))])
    }
  }
}

const NOWHERE = { offset: 0, length: 0 }
