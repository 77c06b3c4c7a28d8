/**
 * `ActiveServer`: the server that has the disks, as one that stands by sees it through its control socket. What counts as a
 * sign of life is an answer that says that the thread which serves NBD runs, or is about to.
 */
import type { ServerProcess } from '../control/process-commands.js'
import { QmpClient, QmpCommandError, QmpError, type QmpAddress } from '../qmp/index.js'
import { messageOf } from '../util/errors.js'
import { processState, type ProcessState } from '../util/process-state.js'

/** What a look at it showed. */
export type Sight =
  | { readonly kind: 'alive'; readonly server: ServerProcess }
  /** It answers, and says itself that it does not serve; or it does not answer in time. */
  | { readonly kind: 'silent' }
  /** Nobody listens there. */
  | { readonly kind: 'nobody' }
  /** Somebody answers who is no server of ours. */
  | { readonly kind: 'stranger'; readonly reason: string }

export class ActiveServer {
  readonly #address: QmpAddress
  #client: QmpClient | undefined
  #hungUp: () => void = () => undefined

  constructor(address: QmpAddress) {
    this.#address = address
  }

  /** Never rejects; takes no longer than so many milliseconds. */
  async look(timeoutMs: number): Promise<Sight> {
    try {
      this.#client ??= await this.#connect(timeoutMs)
      const server = (await this.#client.execute('query-process', {}, { timeoutMs })) as ServerProcess
      return server['data-plane'] === 'stalled' ? { kind: 'silent' } : { kind: 'alive', server }
    } catch (error) {
      if (error instanceof QmpCommandError) return { kind: 'stranger', reason: messageOf(error) }
      if (isRefusal(error)) return { kind: 'nobody' }
      if (error instanceof QmpError) return { kind: 'silent' }
      throw error
    }
  }

  /** Resolves after so many milliseconds, or when the server hangs up, which it may do because it has died. */
  async pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#hungUp = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** Ends a pause, too. */
  async close(): Promise<void> {
    this.#hungUp()
    await this.#client?.close()
  }

  async #connect(connectTimeoutMs: number): Promise<QmpClient> {
    const client = await QmpClient.connect(this.#address, { connectTimeoutMs })
    void client.closed.then(() => {
      this.#client = undefined
      this.#hungUp()
    })
    return client
  }
}

/** Deep in the causes: what the system said of the connection. */
function isRefusal(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ECONNREFUSED' || isRefusal(error.cause)
}

/** Its processes, the one that starts the other first. Only on this machine. */
export function processesOf(server: ServerProcess): readonly ProcessState[] {
  const pids = [server['supervisor-pid'], server.pid].flatMap((pid) => pid ?? [])
  return pids.flatMap((pid) => processState(pid) ?? [])
}
