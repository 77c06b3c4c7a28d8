/**
 * `Examination`: one server under examination, as the checks see it: connections in every state, what the server said of
 * itself, and a sentence for each demand. Every connection ends with the check that opened it.
 */

import type { ConnectionOptions } from 'node:tls'
import * as nbd from '../nbd/protocol.js'
import type { NbdAddress } from '../nbd/uri.js'
import type { Finding, Level } from './finding.js'
import { RawClient, type GoOptions, type OptionReply } from './raw-client.js'

export interface Target {
  readonly address: NbdAddress
  readonly exportName: string
  /** To be used for every connection. */
  readonly tls?: ConnectionOptions
  /** How long the server may take to answer anything. */
  readonly patienceMs: number
  /** The content of the export may be destroyed. */
  readonly mayWrite: boolean
}

/** What the server said of the export. */
export interface Facts {
  readonly size: number
  readonly flags: number
  readonly structured: boolean
  readonly extended: boolean
  readonly contexts: readonly string[]
  /** Of NBD_INFO_BLOCK_SIZE; the defaults of the specification if it is not sent. */
  readonly minimum: number
  readonly maximum: number
}

export class Examination {
  readonly target: Target
  readonly facts: Facts
  readonly #check: string
  readonly #findings: Finding[]
  readonly #clients: RawClient[] = []

  constructor(target: Target, facts: Facts, check: string, findings: Finding[]) {
    this.target = target
    this.facts = facts
    this.#check = check
    this.#findings = findings
  }

  // --- Sentences ---------------------------------------------------------------------------------------------------

  must(holds: boolean, demand: string, detail?: string): void {
    this.#add('MUST', holds, demand, detail)
  }

  should(holds: boolean, demand: string, detail?: string): void {
    this.#add('SHOULD', holds, demand, detail)
  }

  #add(level: Level, holds: boolean, demand: string, detail: string | undefined): void {
    const finding: Finding = { check: this.#check, level, demand, result: holds ? 'pass' : 'fail' }
    this.#findings.push(holds || detail === undefined ? finding : { ...finding, detail })
  }

  // --- Connections -------------------------------------------------------------------------------------------------

  /** Before the greeting, and without TLS. */
  async connect(): Promise<RawClient> {
    const client = await RawClient.connect(this.target.address, this.target.patienceMs)
    this.#clients.push(client)
    return client
  }

  /** Options can be sent. */
  async greeted(clientFlags = nbd.NBD_FLAG_C_FIXED_NEWSTYLE | nbd.NBD_FLAG_C_NO_ZEROES): Promise<RawClient> {
    const client = await this.connect()
    await client.greet(clientFlags)
    if (this.target.tls === undefined) return client
    const secured = await client.startTls(this.target.tls)
    this.#clients.push(secured)
    return secured
  }

  /** Requests can be sent. */
  async begin(options: Omit<GoOptions, 'name'> = {}): Promise<RawClient> {
    return (await this.greeted()).choose({ name: this.target.exportName, ...options })
  }

  close(): void {
    for (const { socket } of this.#clients) socket.destroy()
  }

  // --- What the checks have in common ------------------------------------------------------------------------------

  has(flag: number): boolean {
    return (this.facts.flags & flag) !== 0
  }

  /** The data of NBD_OPT_INFO and NBD_OPT_GO. */
  infoData(...infos: number[]): Buffer {
    return nbd.encodeInfoRequest({ name: this.target.exportName, infos })
  }

  /** The next option is understood. */
  async haggles(client: RawClient): Promise<boolean> {
    const replies = await client.option(nbd.NBD_OPT_LIST)
    return replies.every(({ option }) => option === nbd.NBD_OPT_LIST)
  }

  /** The next request is understood. */
  async lives(client: RawClient): Promise<boolean> {
    const { cookie, error } = await client.ask(nbd.NBD_CMD_READ, { cookie: 0xabcn, length: this.facts.minimum })
    return cookie === 0xabcn && error === 0
  }
}

/** Negotiates everything once, and nothing more. @throws when the server cannot be examined at all */
export async function learnFacts(target: Target): Promise<Facts> {
  const examination = new Examination(target, UNKNOWN, '', [])
  try {
    const client = await examination.greeted()
    const structured = acknowledged(await client.option(nbd.NBD_OPT_STRUCTURED_REPLY))
    const query = nbd.encodeMetaContextRequest({ name: target.exportName, queries: [] })
    const listed = await client.option(nbd.NBD_OPT_LIST_META_CONTEXT, query)
    const contexts = listed.filter(({ type }) => type === nbd.NBD_REP_META_CONTEXT)
    const replies = await client.option(nbd.NBD_OPT_INFO, examination.infoData(nbd.NBD_INFO_BLOCK_SIZE))
    const extendedClient = await examination.greeted()
    const extended = acknowledged(await extendedClient.option(nbd.NBD_OPT_EXTENDED_HEADERS))
    const names = contexts.map(({ data }) => nbd.decodeMetaContext(data).name)
    return { structured, extended, contexts: names, ...infoFacts(replies, target) }
  } finally {
    examination.close()
  }
}

const UNKNOWN: Facts = {
  size: 0,
  flags: 0,
  structured: false,
  extended: false,
  contexts: [],
  minimum: 1,
  maximum: 32 * 1024 * 1024,
}

export const acknowledged = (replies: readonly OptionReply[]): boolean => replies.at(-1)?.type === nbd.NBD_REP_ACK

export const infosOf = (replies: readonly OptionReply[]): nbd.Info[] =>
  replies
    .filter(({ type }) => type === nbd.NBD_REP_INFO)
    .map(({ data }) => nbd.decodeInfo(data))
    .filter((info) => info !== undefined)

function infoFacts(
  replies: readonly OptionReply[],
  { exportName }: Target,
): Pick<Facts, 'size' | 'flags' | 'minimum' | 'maximum'> {
  const infos = infosOf(replies)
  const found = infos.find((info) => info.type === nbd.NBD_INFO_EXPORT)
  if (found === undefined) {
    const last = replies.at(-1)
    const said = last === undefined || last.data.length === 0 ? '' : `, and says '${last.data.toString()}'`
    throw new Error(`the server does not tell of the export '${exportName}' by NBD_OPT_INFO${said}`)
  }
  const sizes = infos.find((info) => info.type === nbd.NBD_INFO_BLOCK_SIZE)
  const { minimum, maximum } = sizes ?? UNKNOWN
  return { size: found.size, flags: found.transmissionFlags, minimum, maximum }
}
