/** A client that does everything right, and measures how long it waits for its answers while others misbehave. */
import * as nbd from '../../src/nbd/protocol.js'
import type { RawClient } from '../../src/conformance/raw-client.js'

/** Whoever waits longer than this is stalled. Far more than the slowest machine needs. */
const STALL_MS = 20_000

export class HealthyClient {
  readonly #client: RawClient
  readonly #waits = new Durations()
  #stopped = false
  #count = 0

  /** @param client in the transmission phase, with structured replies */
  constructor(client: RawClient) {
    this.#client = client
  }

  get requests(): number {
    return this.#count
  }

  /** Asks one thing after the other until `stop`. @throws when an answer is wrong or does not come */
  async run(): Promise<void> {
    while (!this.#stopped) {
      // The first needs blocks that others use, the second none.
      for (const [type, length] of [
        [nbd.NBD_CMD_READ, 512],
        [nbd.NBD_CMD_FLUSH, 0],
      ] as const) {
        await this.#ask(type, length)
      }
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  stop(): void {
    this.#stopped = true
  }

  /** As a sentence. */
  get waits(): string {
    const { median, most99, most } = this.#waits
    return `waited ${median} ms (median), ${most99} ms (99th percentile), ${most} ms (at most)`
  }

  async #ask(type: number, length: number): Promise<void> {
    const cookie = BigInt(++this.#count)
    const begin = performance.now()
    let timer: NodeJS.Timeout | undefined
    const stall = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        reject(new Error(`a healthy client got no answer to command ${type} within ${STALL_MS} ms`))
      }, STALL_MS)
    })
    try {
      const reply = await Promise.race([this.#client.ask(type, { cookie, length }), stall])
      if (reply.error !== 0 || reply.cookie !== cookie) {
        throw new Error(`a healthy client got error ${reply.error} with cookie ${reply.cookie}, not ${cookie}`)
      }
    } finally {
      clearTimeout(timer)
    }
    this.#waits.add(performance.now() - begin)
  }
}

/** Durations of any number, remembered to a tenth of their length. */
class Durations {
  readonly #counts = new Uint32Array(256)
  #count = 0
  #most = 0

  add(ms: number): void {
    this.#count++
    this.#most = Math.max(this.#most, ms)
    const bucket = Math.floor(Math.log(1 + ms * 100) / Math.log(1.1))
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1
  }

  get median(): string {
    return this.#quantile(0.5)
  }

  get most99(): string {
    return this.#quantile(0.99)
  }

  get most(): string {
    return this.#most.toFixed(1)
  }

  #quantile(share: number): string {
    let left = share * this.#count
    const bucket = this.#counts.findIndex((count) => (left -= count) <= 0)
    return Math.min(this.#most, (1.1 ** (bucket + 1) - 1) / 100).toFixed(1)
  }
}
