/**
 * Asks the control socket of our server while something else goes on, from a thread of its own: what this thread does
 * meanwhile would count as time that the server took.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'

export interface Probed<T> {
  readonly result: T
  /** How long each answer took. */
  readonly latenciesMs: readonly number[]
}

/**
 * Runs `work` while the control socket is asked. Without a control socket there are no latencies.
 * @throws what `work` throws, else the error of a query that failed
 */
export async function whileProbed<T>(controlPath: string | undefined, work: () => Promise<T>): Promise<Probed<T>> {
  if (controlPath === undefined) return { result: await work(), latenciesMs: [] }
  const worker = new Worker(new URL('./control-probe-thread.js', import.meta.url), { workerData: controlPath })
  try {
    // `once` rejects when the thread fails first.
    await once(worker, 'message')
    const answered = once(worker, 'message')
    answered.catch(() => undefined)
    const result = await work()
    worker.postMessage('stop')
    const [latenciesMs] = (await answered) as [readonly number[]]
    return { result, latenciesMs }
  } finally {
    await worker.terminate()
  }
}
