/**
 * The server as the guard sees it: what has happened, from its log, and how it is now. The log is asked and not only listened
 * to, so that a guard that comes later knows what a machine was paused for. It is asked after a question that only the data
 * plane can answer: whatever that has told before is in the log by then.
 */
import { parseNbdUri, type NbdUri } from '../../src/nbd/uri.js'
import { QmpCommandError, type JsonObject, type QmpClient } from '../../src/qmp/index.js'
import { messageOf } from '../../src/util/errors.js'
import type { Cause, Fact, SectorRange } from './cause.js'
import type { Evidence } from './decide.js'

const FACTS_MAX = 2000
/** A disk that hangs delays an answer without end. */
const TIMEOUT_MS = 10_000
/** `check-sectors` takes no more. */
const CHECK_SECTORS_MAX = 131_072

const INTERESTING: ReadonlySet<string> = new Set([
  'CLIENT_ERROR',
  'CLIENT_CONNECTED',
  'CLIENT_DISCONNECTED',
  'IO_ERROR',
  'IO_TIMEOUT',
  'REMAP_ADDED',
  'SPARE_EXHAUSTED',
])

interface LogEntry {
  readonly number: number
  readonly time: string
  readonly message: string
  readonly event?: string
}

interface Status {
  readonly uri: string
  readonly 'export-name': string
  readonly suspended: boolean
  readonly 'started-at': string
  readonly clients: readonly unknown[]
}

const NOT_YET = 'it was not reached yet'

export class ServerView {
  #client: QmpClient | undefined
  #unreachable = NOT_YET
  #export: NbdUri | undefined
  #facts: Fact[] = []
  #lastEntry = 0
  #startedAt = ''

  /** @param client undefined: it cannot be asked any more */
  set(client: QmpClient | undefined, unreachable = ''): void {
    this.#client = client
    this.#unreachable = unreachable
  }

  /** Nobody knows yet whether it is there. */
  get isUntried(): boolean {
    return this.#client === undefined && this.#unreachable === NOT_YET
  }

  /** It was tried and is not there. */
  get isLost(): boolean {
    return this.#client === undefined && this.#unreachable !== NOT_YET
  }

  /** Its export, also while it is away; undefined until it was reached once. */
  get export(): NbdUri | undefined {
    return this.#export
  }

  /** In the order of time. */
  get facts(): readonly Fact[] {
    return this.#facts
  }

  /** Learns what has happened. */
  async refresh(): Promise<void> {
    const client = this.#client
    if (client === undefined) return
    try {
      const status = await this.#status(client)
      this.#export = { ...parseNbdUri(status.uri), exportName: status['export-name'] }
      await hangs(client)
      await this.#readLog(client)
    } catch (error) {
      this.set(undefined, messageOf(error))
    }
  }

  async #status(client: QmpClient): Promise<Status> {
    const status = (await client.execute('query-status', {}, { timeoutMs: TIMEOUT_MS })) as Status
    // The numbers of another process begin anew.
    if (status['started-at'] !== this.#startedAt) this.#lastEntry = 0
    this.#startedAt = status['started-at']
    return status
  }

  async #readLog(client: QmpClient): Promise<void> {
    for (;;) {
      const { entries, last } = (await client.execute('query-log', { since: this.#lastEntry })) as {
        readonly entries: readonly LogEntry[]
        readonly last: number
      }
      this.#facts.push(...entries.flatMap(factOf))
      this.#facts = this.#facts.slice(-FACTS_MAX)
      this.#lastEntry = entries.at(-1)?.number ?? last
      if (this.#lastEntry >= last) return
    }
  }

  /** How it is now, with a look at what failed. */
  async evidence(cause: Cause): Promise<Evidence> {
    const client = this.#client
    if (client === undefined) return away(this.#unreachable)
    try {
      const status = await this.#status(client)
      const stalled = await hangs(client)
      const spares = (await client.execute('query-spares', {}, { timeoutMs: TIMEOUT_MS })) as {
        readonly 'free-blocks': number
      }
      const range = stalled || status.suspended || !isWorthALook(cause) ? undefined : cause.range
      return {
        ...{ unreachable: undefined, stalled, suspended: status.suspended, startedAt: status['started-at'] },
        ...{ freeBlocks: spares['free-blocks'], clients: status.clients.length },
        check: range && (await check(client, range)),
      }
    } catch (error) {
      return away(messageOf(error))
    }
  }
}

/**
 * Whether a disk hangs, from a question that only the data plane can answer: it is waited for as long as that shows signs of
 * life, which on a busy machine it may do rarely.
 */
async function hangs(client: QmpClient): Promise<boolean> {
  try {
    await client.execute('query-lost', { limit: 1 }, { timeoutMs: TIMEOUT_MS })
    return false
  } catch (error) {
    if (error instanceof QmpCommandError) return true
    throw error
  }
}

const away = (unreachable: string): Evidence => ({
  ...{ unreachable, stalled: false, suspended: false, freeBlocks: 0, clients: 0, startedAt: '', check: undefined },
})

/** A write that found no spare block says nothing of whether its place can be read. */
const isWorthALook = ({ kind }: Cause): boolean => kind === 'unreadable' || kind === 'unwritable' || kind === 'gone'

async function check(client: QmpClient, { sector, sectors }: SectorRange): Promise<Evidence['check']> {
  if (sectors === 0) return undefined
  const args = { 'main-sector': sector, sectors: Math.min(sectors, CHECK_SECTORS_MAX) }
  const answer = (await client.execute('check-sectors', args, { timeoutMs: TIMEOUT_MS })) as {
    readonly readable: boolean
    readonly 'bad-sector'?: number
    readonly error?: string
  }
  const { readable, 'bad-sector': badSector, error } = answer
  return { readable, ...(badSector !== undefined && { badSector }), ...(error !== undefined && { error }) }
}

function factOf({ event, message, time }: LogEntry): Fact[] {
  if (event === undefined || !INTERESTING.has(event)) return []
  try {
    return [{ event, data: JSON.parse(message.slice(event.length)) as JsonObject, timeMs: Date.parse(time) }]
  } catch {
    // A message that was too long was cut off.
    return []
  }
}
