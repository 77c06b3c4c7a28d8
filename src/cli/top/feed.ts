/**
 * What `top` knows of a server, over one connection that is made again when it ends. A look that fails leaves what was
 * known, and says why.
 */
import type { ServerStatus } from '../../control/commands.js'
import type { ErrorRegionsReply } from '../../control/error-commands.js'
import type { HealthReply } from '../../control/health-commands.js'
import type { RemapTable } from '../../control/remap-commands.js'
import type { StatisticsReply } from '../../control/statistics-commands.js'
import { QmpClient } from '../../qmp/client.js'
import type { EventQueue } from '../../qmp/events.js'
import type { QmpEvent } from '../../qmp/message.js'
import { messageOf } from '../../util/errors.js'
import type { ShowOptions } from '../ask.js'
import { askForRanges, type Ranges } from './ranges.js'
import type { Picture, Sample } from './view.js'

/** A server that does not say in this time how it is, is as good as away. */
const ANSWER_TIMEOUT_MS = 5000
/** Further apart than looks: the list is long, and made by the thread that serves. */
const RANGES_EVERY_MS = 2000
const EVENTS_KEPT = 100

export class Feed {
  readonly #control: ShowOptions['control']
  #client: QmpClient | undefined
  #isClosed = false
  #queue: EventQueue | undefined
  #now: Sample | undefined
  #before: Sample | undefined
  #trouble: string | undefined
  #events: QmpEvent[] = []
  #ranges: Ranges = { ranges: [], total: 0 }
  #rangesFor = ''
  #rangesAskedMs = -Infinity

  constructor(control: ShowOptions['control']) {
    this.#control = control
  }

  /** As of the last look that was answered; `undefined` before the first. */
  get picture(): Picture | undefined {
    if (!this.#now) return undefined
    const { ranges, total } = this.#ranges
    return {
      now: this.#now,
      before: this.#before,
      trouble: this.#trouble,
      ranges,
      hasMoreRanges: ranges.length < total,
      events: this.#events,
    }
  }

  /** Never rejects. */
  async look(): Promise<void> {
    try {
      const client = await this.#connected()
      const sample = await ask(client)
      this.#before = this.#now
      this.#now = sample
      this.#trouble = undefined
      this.#askForRanges(client, sample)
    } catch (error) {
      this.#trouble = `no answer, trying again: ${messageOf(error)}`
      this.#before = undefined
      await this.#disconnect()
    }
    this.#takeEvents()
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await this.#disconnect()
  }

  async #disconnect(): Promise<void> {
    const client = this.#client
    this.#client = undefined
    await client?.close()
  }

  async #connected(): Promise<QmpClient> {
    if (!this.#client) {
      const client = await QmpClient.connect(this.#control, { connectTimeoutMs: ANSWER_TIMEOUT_MS })
      this.#client = client
      this.#queue = client.events()
      // Nobody waits for us any more.
      if (this.#isClosed) await this.#disconnect()
      return client
    }
    return this.#client
  }

  #takeEvents(): void {
    this.#events = [...this.#events, ...(this.#queue?.drain() ?? [])].slice(-EVENTS_KEPT)
  }

  /** Not waited for: it is answered only when no disk hangs. */
  #askForRanges(client: QmpClient, { status }: Sample): void {
    const wanted = `${status.pid} ${status.remaps}`
    if (wanted === this.#rangesFor || performance.now() - this.#rangesAskedMs < RANGES_EVERY_MS) return
    this.#rangesAskedMs = performance.now()
    askForRanges(client).then(
      (ranges) => {
        this.#ranges = ranges
        this.#rangesFor = wanted
      },
      // The next look will find out what is wrong, if it is not over by then.
      () => undefined,
    )
  }
}

type Answers = [ServerStatus, RemapTable, StatisticsReply, HealthReply, ErrorRegionsReply]

async function ask(client: QmpClient): Promise<Sample> {
  const commands = ['query-status', 'query-remap-table', 'query-stats', 'query-health', 'query-error-regions']
  const answers = commands.map((command) => client.execute(command, {}, { timeoutMs: ANSWER_TIMEOUT_MS }))
  const [status, table, statistics, health, errors] = (await Promise.all(answers)) as Answers
  return { status, table, statistics, health, errors }
}
