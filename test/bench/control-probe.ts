/**
 * Asks the control socket `query-status` at a fixed pace and keeps how long each answer took. The next question does not
 * wait for the last answer: one long wait counts as often as questions fell into it.
 */
import { QmpClient } from '../../src/qmp/index.js'

const PERIOD_MS = 20

export class ControlProbe {
  readonly #client: QmpClient
  readonly #latenciesMs: number[] = []
  readonly #answers: Promise<void>[] = []
  readonly #timer: NodeJS.Timeout
  #failure: Error | undefined

  private constructor(client: QmpClient) {
    this.#client = client
    this.#ask()
    this.#timer = setInterval(() => {
      this.#ask()
    }, PERIOD_MS)
  }

  static async start(controlPath: string): Promise<ControlProbe> {
    return new ControlProbe(await QmpClient.connect(controlPath))
  }

  /** Waits for the answers that are due. @returns all latencies @throws the first failed query's error */
  async stop(): Promise<readonly number[]> {
    clearInterval(this.#timer)
    await Promise.all(this.#answers)
    await this.#client.close()
    if (this.#failure !== undefined) throw this.#failure
    return this.#latenciesMs
  }

  #ask(): void {
    const askedMs = performance.now()
    const answered = this.#client.execute('query-status').then(
      () => {
        this.#latenciesMs.push(performance.now() - askedMs)
      },
      (error: unknown) => {
        this.#failure ??= error instanceof Error ? error : new Error(String(error))
      },
    )
    this.#answers.push(answered)
  }
}

/** Runs `work` while the control socket is asked. Without a control socket there are no latencies. */
export async function whileProbed<T>(
  controlPath: string | undefined,
  work: () => Promise<T>,
): Promise<{ readonly result: T; readonly latenciesMs: readonly number[] }> {
  if (controlPath === undefined) return { result: await work(), latenciesMs: [] }
  const probe = await ControlProbe.start(controlPath)
  let result
  try {
    result = await work()
  } catch (error) {
    await probe.stop().catch(() => undefined)
    throw error
  }
  return { result, latenciesMs: await probe.stop() }
}
