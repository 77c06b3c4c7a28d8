/**
 * `UpstreamLink`: a connection to an NBD server that comes back. While the server is away requests wait, and what was in
 * flight is sent again: every command used is idempotent. Away for too long, they fail with `UpstreamGoneError`, and
 * go on working whenever the server is back.
 *
 * The durability order, each step after the one before:
 *   a write is acknowledged > it is in the replay journal > its caller hears of it;
 *   a connection is new > the disk is still ours > the journal has been replayed on it > anything else is sent;
 *   a FLUSH is sent > it succeeds > what was in the journal when it was sent leaves.
 * So a server that dies with a volatile cache loses nothing, as long as this process lives.
 *
 * One thing no NBD client can rule out: a server that lives, and still works off requests of a connection that was cut,
 * after the client has moved on.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { NbdConnectionError, NbdProtocolError, NbdServerError } from '../nbd/client-errors.js'
import { DEFAULT_CONNECT_TIMEOUT_MS } from '../nbd/client-connect.js'
import type { NbdBlockSizes } from '../nbd/client-handshake.js'
import { DEFAULT_REQUESTS_IN_FLIGHT_MAX, NbdClient, type NbdFlags } from '../nbd/client.js'
import { type NbdUri, parseNbdUri } from '../nbd/uri.js'
import type { Log } from '../util/log.js'
import { DeviceError, type Device } from './device.js'
import { MiB } from '../util/units.js'
import { type Mutation, sendMutation } from './mutation.js'
import { ReplayJournal } from './replay-journal.js'

export interface UpstreamSettings {
  readonly log: Log
  /** For connecting and the handshake together, each time. */
  readonly connectTimeoutMs?: number
  /** Requests fail once the server was away this long. */
  readonly reconnectTimeoutMs?: number
  /** Pause before the first attempt to reconnect; doubled for each further one up to `reconnectDelayMaxMs`. */
  readonly reconnectDelayMs?: number
  readonly reconnectDelayMaxMs?: number
  readonly requestsInFlightMax?: number
  /**
   * Asked of each new connection after the first, before anything is written again on it: whether the disk is still ours.
   * A DeviceError says that it is not, and no request goes there any more.
   */
  readonly beforeReplay?: (source: Pick<Device, 'size' | 'read'>) => Promise<void>
  /** Memory for acknowledged writes that are not flushed. At half of it the link flushes by itself. */
  readonly replayBytesMax?: number
}

const DEFAULTS = {
  connectTimeoutMs: DEFAULT_CONNECT_TIMEOUT_MS,
  reconnectTimeoutMs: 30_000,
  reconnectDelayMs: 10,
  reconnectDelayMaxMs: 1000,
  requestsInFlightMax: DEFAULT_REQUESTS_IN_FLIGHT_MAX,
  replayBytesMax: 64 * MiB,
}

/** The server was away for too long, or another disk came back in its place. */
export class UpstreamGoneError extends Error {
  override name = 'UpstreamGoneError'
}

/** Who waits for the server to be back. */
interface Absence {
  readonly since: number
  readonly back: Promise<NbdClient>
  readonly resolve: (client: NbdClient) => void
  readonly reject: (error: Error) => void
}

export class UpstreamLink {
  readonly size: number
  readonly flags: NbdFlags
  readonly blockSizes: NbdBlockSizes
  /** Normalised, for messages. */
  readonly #uri: string
  /** With the credentials. */
  readonly #target: NbdUri
  readonly #settings: UpstreamSettings & typeof DEFAULTS
  readonly #journal: ReplayJournal
  readonly #closing = new AbortController()
  #client: NbdClient | undefined
  /** A new connection that is still replaying. */
  #candidate: NbdClient | undefined
  #absence: Absence | undefined
  #gone: UpstreamGoneError | undefined
  #giveUpTimer: NodeJS.Timeout | undefined
  #reconnecting: Promise<void> = Promise.resolve()
  #reconnectDelayMs: number
  #trimming: Promise<void> | undefined
  /** Acknowledged data may be lost, and no `flush` has said so yet. */
  #unreported: NbdServerError | undefined

  private constructor(client: NbdClient, target: NbdUri, settings: UpstreamSettings & typeof DEFAULTS) {
    this.size = client.size
    this.flags = client.flags
    this.blockSizes = client.blockSizes
    this.#uri = client.uri
    this.#target = target
    this.#settings = settings
    this.#journal = new ReplayJournal(settings.replayBytesMax)
    this.#reconnectDelayMs = settings.reconnectDelayMs
    this.#adopt(client)
  }

  /** @throws NbdUriError, NbdConnectionError, NbdServerError, NbdProtocolError: one sentence each, and at once */
  static async open(uri: string, settings: UpstreamSettings): Promise<UpstreamLink> {
    const complete = { ...DEFAULTS, ...settings }
    const target = parseNbdUri(uri)
    return new UpstreamLink(await NbdClient.connect(target, complete), target, complete)
  }

  /** @throws NbdServerError, UpstreamGoneError */
  read(offset: number, into: Buffer): Promise<void> {
    return this.#send((client) => client.read(offset, into))
  }

  /**
   * Sends one request that changes content. With `fua` it resolves only once the change is durable, by FLUSH where the
   * server has no FUA.
   * @throws NbdServerError, UpstreamGoneError
   */
  async mutate(mutation: Mutation, fua: boolean): Promise<void> {
    if (!this.flags.sendFlush) {
      // Without FLUSH nothing could ever leave the journal; such a server promises nothing anyway.
      await this.#send((client) => sendMutation(client, mutation, fua && client.flags.sendFua))
      return
    }
    await this.#reserve(mutation)
    let durable: boolean
    try {
      durable = await this.#send((client) => this.#sendOnce(client, mutation, fua))
    } catch (error) {
      this.#journal.cancel(mutation)
      throw error
    }
    // No turn of the event loop passes between the reply and this, so no replay can begin in between.
    if (durable) this.#journal.cancel(mutation)
    else this.#journal.append(mutation)
    if (this.#journal.wantsFlush) this.#trimJournal()
    if (fua && !durable) await this.#flush()
  }

  /**
   * Without FLUSH in the server it resolves without effect.
   * @throws UpstreamGoneError, NbdServerError; also, once, for data acknowledged earlier that could not be kept
   */
  async flush(): Promise<void> {
    if (!this.flags.sendFlush) return
    await this.#flush()
    const unreported = this.#unreported
    this.#unreported = undefined
    if (unreported) throw unreported
  }

  dropConnection(): void {
    if (this.#client) this.#lose(this.#client, new NbdConnectionError(`NBD server at ${this.#uri}: cut on order`))
  }

  /** Nothing of the caller's may be in flight any more. */
  async close(): Promise<void> {
    this.#closing.abort()
    clearTimeout(this.#giveUpTimer)
    this.#absence?.reject(new UpstreamGoneError(`NBD server at ${this.#uri}: closed`))
    // What is in flight here (a flush of one's own, a replay) may never be answered.
    this.#candidate?.destroy()
    const timer = setTimeout(() => this.#client?.destroy(), this.#settings.connectTimeoutMs)
    await this.#client?.disconnect()
    clearTimeout(timer)
    await this.#trimming
    await this.#reconnecting
  }

  async #reserve(mutation: Mutation): Promise<void> {
    if (this.#gone) throw this.#gone
    const room = this.#journal.reserve(mutation)
    if (!room) return
    this.#trimJournal()
    await room
  }

  /** @returns whether it is durable already */
  async #sendOnce(client: NbdClient, mutation: Mutation, fua: boolean): Promise<boolean> {
    // A replay must not undo a durable write: where it would, the write takes the way through the journal, and a FLUSH.
    const durable = fua && client.flags.sendFua && !this.#journal.overlaps(mutation.offset, mutation.length)
    await sendMutation(client, mutation, durable)
    return durable
  }

  #flush(): Promise<void> {
    return this.#send(async (client) => {
      const mark = this.#journal.mark()
      await client.flush()
      this.#journal.release(mark)
    })
  }

  #trimJournal(): void {
    this.#trimming ??= this.#flushUntilRoom().finally(() => {
      this.#trimming = undefined
    })
  }

  async #flushUntilRoom(): Promise<void> {
    while (this.#journal.wantsFlush) {
      const mark = this.#journal.mark()
      try {
        await this.#flush()
      } catch (error) {
        if (error instanceof UpstreamGoneError) return
        if (!(error instanceof NbdServerError)) throw error
        this.#lostData('a flush', error)
        this.#journal.release(mark)
      }
    }
  }

  #lostData(what: string, error: NbdServerError): void {
    this.#unreported ??= error
    this.#settings.log.error(`${what} failed, so the next flush is going to fail: ${error.message}`)
  }

  /** Sends a request, and again on each new connection until it is answered. */
  async #send<T>(request: (client: NbdClient) => Promise<T>): Promise<T> {
    let firstLoss: number | undefined
    for (;;) {
      const client = this.#client ?? (await this.#back())
      try {
        const result = await request(client)
        this.#reconnectDelayMs = this.#settings.reconnectDelayMs
        return result
      } catch (error) {
        if (!isLoss(error)) throw error
        const reason = error instanceof Error ? error : new Error(String(error))
        this.#lose(client, reason)
        firstLoss ??= Date.now()
        // A server that comes back each time, only to die of this request again.
        if (Date.now() - firstLoss > this.#settings.reconnectTimeoutMs) throw this.#goneError(reason.message)
      }
    }
  }

  #back(): Promise<NbdClient> {
    if (this.#gone) return Promise.reject(this.#gone)
    return this.#absence?.back ?? Promise.reject(new UpstreamGoneError(`NBD server at ${this.#uri}: closed`))
  }

  #adopt(client: NbdClient): void {
    clearTimeout(this.#giveUpTimer)
    this.#gone = undefined
    this.#client = client
    this.#absence?.resolve(client)
    this.#absence = undefined
    void client.lost.then((reason) => {
      this.#lose(client, reason)
    })
    if (this.#journal.wantsFlush) this.#trimJournal()
  }

  #lose(client: NbdClient, reason: Error): void {
    if (this.#client !== client) return
    client.destroy()
    this.#client = undefined
    if (this.#closing.signal.aborted) return
    this.#settings.log.warn(`${reason.message}; reconnecting`)
    this.#absence = beginAbsence()
    this.#giveUpTimer = setTimeout(() => {
      this.#giveUp(this.#goneError(reason.message))
    }, this.#settings.reconnectTimeoutMs)
    this.#reconnecting = this.#reconnect(this.#absence)
  }

  #giveUp(gone: UpstreamGoneError): void {
    clearTimeout(this.#giveUpTimer)
    this.#gone = gone
    this.#settings.log.error(`${gone.message}; trying further in the background`)
    this.#absence?.reject(gone)
    this.#journal.rejectWaiting(gone)
  }

  #goneError(reason: string): UpstreamGoneError {
    const { reconnectTimeoutMs } = this.#settings
    return new UpstreamGoneError(
      `NBD server at ${this.#uri} did not come back within ${reconnectTimeoutMs} ms: ${reason}`,
    )
  }

  async #reconnect({ since }: Absence): Promise<void> {
    const { log, reconnectDelayMaxMs } = this.#settings
    const { signal } = this.#closing
    for (;;) {
      await sleep(this.#reconnectDelayMs, undefined, { signal }).catch(() => undefined)
      if (signal.aborted) return
      this.#reconnectDelayMs = Math.min(this.#reconnectDelayMs * 2, reconnectDelayMaxMs)
      const client = await this.#attempt()
      if (!client) continue
      log.info(`reconnected to NBD server at ${this.#uri} after ${Date.now() - since} ms`)
      this.#adopt(client)
      return
    }
  }

  async #attempt(): Promise<NbdClient | undefined> {
    const { signal } = this.#closing
    try {
      const client = await NbdClient.connect(this.#target, { ...this.#settings, signal })
      this.#candidate = client
      this.#refuseStranger(client)
      await this.#refuseIfNotOurs(client)
      await this.#replay(client)
      if (signal.aborted) throw new NbdConnectionError('closed')
      this.#candidate = undefined
      return client
    } catch (error) {
      this.#candidate?.destroy()
      this.#candidate = undefined
      if (error instanceof UpstreamGoneError) {
        if (this.#gone?.message !== error.message) this.#giveUp(error)
      } else if (isLoss(error) || error instanceof NbdServerError) {
        this.#settings.log.debug(String(error))
      } else {
        throw error
      }
      return undefined
    }
  }

  async #replay(client: NbdClient): Promise<void> {
    if (this.#journal.entries === 0) return
    this.#settings.log.info(`writing ${this.#journal.entries} unflushed requests again to NBD server at ${this.#uri}`)
    await this.#journal.replay(async (mutation) => {
      try {
        await sendMutation(client, mutation, false)
      } catch (error) {
        if (isLoss(error) || !(error instanceof NbdServerError)) throw error
        this.#lostData('writing acknowledged data again', error)
      }
    })
  }

  /** @throws UpstreamGoneError when another server has taken the disk over */
  async #refuseIfNotOurs(client: NbdClient): Promise<void> {
    const read = async (offset: number, into: Buffer): Promise<void> => {
      try {
        await client.read(offset, into)
      } catch (error) {
        if (isLoss(error) || !(error instanceof NbdServerError)) throw error
        throw new DeviceError('EIO', this.#uri, 'read', offset, into.length, { cause: error })
      }
    }
    try {
      await this.#settings.beforeReplay?.({ size: client.size, read })
    } catch (error) {
      throw error instanceof DeviceError ? new UpstreamGoneError(error.message, { cause: error }) : error
    }
  }

  /** @throws UpstreamGoneError when what answers at the URI cannot be the disk that was there before */
  #refuseStranger(client: NbdClient): void {
    const difference = this.#differenceOf(client)
    if (difference === undefined) return
    throw new UpstreamGoneError(`NBD server at ${this.#uri} came back as a different disk: it ${difference}`)
  }

  #differenceOf({ size, flags, blockSizes: is }: NbdClient): string | undefined {
    const was = this.blockSizes
    if (size !== this.size) return `has ${size} bytes instead of ${this.size}`
    if (flags.readOnly && !this.flags.readOnly) return 'is read-only now'
    if (this.flags.sendFlush && !flags.sendFlush) return 'cannot flush any more'
    if (is.minimum <= was.minimum && is.maximum >= was.maximum) return undefined
    return `has block sizes from ${is.minimum} to ${is.maximum} instead of ${was.minimum} to ${was.maximum}`
  }
}

/** What says nothing about the request, only that this connection is of no use any more. */
function isLoss(error: unknown): boolean {
  if (error instanceof NbdServerError) return error.errorName === 'NBD_ESHUTDOWN'
  return error instanceof NbdConnectionError || error instanceof NbdProtocolError
}

function beginAbsence(): Absence {
  let resolve: Absence['resolve'] = () => undefined
  let reject: Absence['reject'] = () => undefined
  const back = new Promise<NbdClient>((resolveBack, rejectBack) => {
    resolve = resolveBack
    reject = rejectBack
  })
  // Nobody may be waiting.
  back.catch(() => undefined)
  return { since: Date.now(), back, resolve, reject }
}
