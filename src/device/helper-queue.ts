/**
 * `HelperQueue`: programs that punch or zero a range of a disk, two at a time however many ranges clients ask for: to start
 * one holds the event loop, and with it all other clients, for a millisecond or more. Ranges that wait and lie one behind
 * the other become one.
 */

/** @returns whether it succeeded. Never rejects */
export type RunHelper = (command: readonly string[], offset: number, length: number) => Promise<boolean>

interface Job {
  readonly command: readonly string[]
  readonly offset: number
  length: number
  /** Of all who asked for a part of it. */
  readonly resolve: ((succeeded: boolean) => void)[]
}

export const HELPERS_MAX = 2

export class HelperQueue {
  readonly #run: RunHelper
  /** In the order in which they start. */
  readonly #waiting = new Set<Job>()
  /** The same, by where they end. */
  readonly #byEnd = new Map<string, Job>()
  #running = 0

  constructor(run: RunHelper) {
    this.#run = run
  }

  /** As `RunHelper`, when it is its turn. Whoever asks holds the range until it is done. */
  run(command: readonly string[], offset: number, length: number): Promise<boolean> {
    return new Promise((resolve) => {
      this.#add(command, offset, length).resolve.push(resolve)
      this.#startNext()
    })
  }

  #add(command: readonly string[], offset: number, length: number): Job {
    const before = this.#byEnd.get(keyOf(command, offset))
    const job = before ?? { command, offset, length: 0, resolve: [] }
    if (before === undefined) this.#waiting.add(job)
    else this.#byEnd.delete(keyOf(command, offset))
    job.length += length
    this.#byEnd.set(keyOf(command, job.offset + job.length), job)
    return job
  }

  #startNext(): void {
    const [job] = this.#waiting
    if (job === undefined || this.#running >= HELPERS_MAX) return
    const { command, offset, length } = job
    this.#waiting.delete(job)
    this.#byEnd.delete(keyOf(command, offset + length))
    this.#running++
    void this.#run(command, offset, length).then((succeeded) => {
      this.#running--
      for (const resolve of job.resolve) resolve(succeeded)
      this.#startNext()
    })
  }
}

const keyOf = (command: readonly string[], end: number): string => `${command.join(' ')} ${end}`
