/**
 * The thread of control-probe.ts: asks `query-status` at a fixed pace and keeps how long each answer took. The next
 * question does not wait for the last answer, so one long wait counts as often as questions fell into it.
 *
 * Says `asking` when it has begun, and all latencies in milliseconds after any message. A query that fails ends it.
 */
import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'
import { QmpClient } from '../../src/qmp/index.js'
import { assert } from '../../src/util/assert.js'

const PERIOD_MS = 20

assert(parentPort !== null, 'it runs as a thread')
const client = await QmpClient.connect(workerData as string)
const answers: Promise<number>[] = []

async function ask(): Promise<number> {
  const askedMs = performance.now()
  await client.execute('query-status')
  return performance.now() - askedMs
}

const timer = setInterval(() => answers.push(ask()), PERIOD_MS)
parentPort.postMessage('asking')
await once(parentPort, 'message')
clearInterval(timer)
parentPort.postMessage(await Promise.all(answers))
await client.close()
