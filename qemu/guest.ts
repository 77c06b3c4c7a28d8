/**
 * `Guest`: runs commands in a virtual machine through its agent, over the unix socket of QEMU's chardev.
 *
 * Every promise settles: when QEMU goes away, when the guest restarts, and when a time limit passes. QEMU serves one client
 * of that socket at a time; a second one is left waiting, and `connect` then times out.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import {
  encodeKill,
  encodeRun,
  encodeSync,
  LineSplitter,
  parseAgentLine,
  type AgentMessage,
  type GuestResult,
} from './guest-protocol.js'

export type { GuestResult } from './guest-protocol.js'

/** The way to the agent is gone or was never there. A command in flight may or may not have run. */
export class GuestConnectionError extends Error {
  override name = 'GuestConnectionError'
}

/** The command did not end in time. It is killed in the guest. */
export class GuestTimeoutError extends Error {
  override name = 'GuestTimeoutError'
  constructor(
    readonly command: string,
    readonly timeoutMs: number,
  ) {
    super(`the guest's command did not end within ${timeoutMs} ms: ${command}`)
  }
}

export class GuestCommandError extends Error {
  override name = 'GuestCommandError'
  constructor(
    readonly command: string,
    readonly result: GuestResult,
  ) {
    super(`the guest's command ended with status ${result.status}: ${command}\n${result.stderr}`.trimEnd())
  }
  get status(): number {
    return this.result.status
  }
  get stderr(): string {
    return this.result.stderr
  }
}

export interface GuestConnectOptions {
  /** For everything until the agent has answered: the socket's appearance and the guest's boot. */
  readonly timeoutMs?: number
  /** Gives up early, for instance when QEMU has ended. */
  readonly signal?: AbortSignal
}

export interface GuestRunOptions {
  readonly timeoutMs?: number
  /** The command's standard input. Slow: some 150 KiB per second under emulation. */
  readonly input?: string | Buffer
}

const CONNECT_TIMEOUT_MS = 60_000
const RUN_TIMEOUT_MS = 60_000
const CONNECT_RETRY_MS = 20

interface Waiter<T> {
  resolve(value: T): void
  reject(error: Error): void
}

export class Guest {
  readonly #socket: Socket
  readonly #socketPath: string
  /** Replies to a client before us carry other ids. */
  readonly #name = randomBytes(6).toString('hex')
  readonly #running = new Map<string, Waiter<GuestResult>>()
  #sync: Waiter<undefined> | undefined
  #bootId: string | undefined
  #count = 0
  #failure: GuestConnectionError | undefined

  private constructor(socket: Socket, socketPath: string) {
    this.#socket = socket
    this.#socketPath = socketPath
    const lines = new LineSplitter()
    socket.on('data', (chunk: Buffer) => {
      for (const line of lines.push(chunk)) this.#receive(parseAgentLine(line))
    })
    socket.on('error', (error) => {
      this.#fail(`the connection to the guest's agent broke: ${error.message}`)
    })
    socket.on('close', () => {
      this.#fail(`the guest's agent is gone: ${socketPath} was closed, so QEMU has ended`)
    })
  }

  /**
   * Waits for the socket to appear and for the guest to boot. After a reset of the guest, connect again.
   * @throws GuestConnectionError
   */
  static async connect(socketPath: string, options: GuestConnectOptions = {}): Promise<Guest> {
    const { timeoutMs = CONNECT_TIMEOUT_MS } = options
    const timeout = AbortSignal.timeout(timeoutMs)
    const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal])
    const gaveUp = (): string => (timeout.aborted ? `within ${timeoutMs} ms` : 'before it was called off')
    const socket = await openSocket(socketPath, signal, gaveUp)
    const guest = new Guest(socket, socketPath)
    const abort = (): void => {
      guest.#fail(`the guest's agent behind ${socketPath} did not answer ${gaveUp()}`)
    }
    signal.addEventListener('abort', abort)
    try {
      if (signal.aborted) abort()
      await guest.#synchronise()
      return guest
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  /**
   * Runs `sh -c command`. Any number may run at once.
   * @throws GuestConnectionError, GuestTimeoutError
   */
  async run(command: string, options: GuestRunOptions = {}): Promise<GuestResult> {
    const { timeoutMs = RUN_TIMEOUT_MS, input = '' } = options
    if (this.#failure !== undefined) throw this.#failure
    const id = `${this.#name}-${this.#count++}`
    let timer: NodeJS.Timeout | undefined
    try {
      return await new Promise<GuestResult>((resolve, reject) => {
        this.#running.set(id, { resolve, reject })
        timer = setTimeout(() => {
          this.#socket.write(encodeKill(id))
          reject(new GuestTimeoutError(command, timeoutMs))
        }, timeoutMs)
        this.#socket.write(encodeRun(id, command, input))
      })
    } finally {
      clearTimeout(timer)
      this.#running.delete(id)
    }
  }

  /**
   * Runs a command that must succeed, and returns its standard output.
   * @throws GuestCommandError when its status is not 0; GuestConnectionError, GuestTimeoutError
   */
  async check(command: string, options: GuestRunOptions = {}): Promise<string> {
    const result = await this.run(command, options)
    if (result.status !== 0) throw new GuestCommandError(command, result)
    return result.stdout
  }

  /** The kernel's log since the guest booted (or since its buffer of 1 MiB wrapped). */
  kernelLog(): Promise<string> {
    return this.check('dmesg')
  }

  /** The guest runs on. Commands in flight are rejected. */
  close(): void {
    this.#fail(`the connection to the guest's agent behind ${this.#socketPath} was closed`)
  }

  #synchronise(): Promise<undefined> {
    return new Promise<undefined>((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure)
        return
      }
      this.#sync = { resolve, reject }
      this.#socket.write(encodeSync(this.#name))
    })
  }

  #receive(message: AgentMessage | undefined): void {
    switch (message?.type) {
      case 'hello':
        this.#hello(message.bootId)
        break
      case 'synced':
        if (message.token !== this.#name) break
        this.#bootId = message.bootId
        this.#sync?.resolve(undefined)
        this.#sync = undefined
        break
      case 'done':
        this.#running.get(message.id)?.resolve(message.result)
        break
    }
  }

  /** Our `sync` may have been lost in the boot that this hello ends; or the guest that we knew is gone. */
  #hello(bootId: string): void {
    if (this.#sync !== undefined) this.#socket.write(encodeSync(this.#name))
    else if (bootId === this.#bootId) this.#fail("the guest's agent crashed and was started again")
    else this.#fail('the guest was restarted')
  }

  #fail(why: string): void {
    this.#failure ??= new GuestConnectionError(why)
    for (const waiter of this.#running.values()) waiter.reject(this.#failure)
    this.#running.clear()
    this.#sync?.reject(this.#failure)
    this.#sync = undefined
    this.#socket.destroy()
  }
}

/** QEMU makes the socket soon after its start: until then there is no file, or one that an earlier QEMU left. */
async function openSocket(path: string, signal: AbortSignal, gaveUp: () => string): Promise<Socket> {
  let last = 'no attempt was made'
  while (!signal.aborted) {
    const socket = createConnection(path)
    try {
      await once(socket, 'connect', { signal })
      return socket
    } catch (error) {
      socket.destroy()
      if (error instanceof Error && error.name !== 'AbortError') last = error.message
    }
    await delay(CONNECT_RETRY_MS)
  }
  throw new GuestConnectionError(`cannot connect to the guest's agent ${gaveUp()}: ${last}`)
}
