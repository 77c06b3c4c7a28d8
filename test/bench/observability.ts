/**
 * What it costs to be looked at: the same load on the same server, with and without a scraper that asks for /metrics every
 * second and two clients that listen to events. Runs of either kind take turns, so that a machine that changes its speed
 * changes it for both.
 */
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { QmpClient } from '../../src/qmp/index.js'
import { MiB } from '../../src/util/units.js'
import { blankSpare } from './disks.js'
import { runFio } from './fio.js'
import { blankImage } from './images.js'
import type { Context, Load, Measured } from './job.js'
import { startNbdRemap } from './servers.js'

const MAIN_SIZE = 256 * MiB
const LOAD: Load = { rw: 'randread', bs: '4k', iodepth: 32 }
const TOKEN = 'the-token-of-the-benchmark'
const SCRAPE_MS = 1000
const EVENT_CLIENTS = 2
/** Whether somebody looks, run for run. */
const TURNS = [false, true, true, false, false, true, true, false]

export async function measureObservability({ directory, scope, seconds, step }: Context): Promise<Measured> {
  step('starting the server')
  const main = await blankImage(path.join(directory, 'main.img'), MAIN_SIZE)
  const [tokenFile, logFile] = [path.join(directory, 'token'), path.join(directory, 'log')]
  await writeFile(tokenFile, TOKEN, { mode: 0o600 })
  const options = ['--http', '127.0.0.1:0', '--http-token-file', tokenFile, '--log-file', logFile]
  const server = scope.use(await startNbdRemap(directory, main, await blankSpare(directory), options))
  const url = / HTTP on (http:\S+)/.exec(await readFile(logFile, 'utf8'))?.[1] ?? ''
  const rates = { plain: [] as number[], observed: [] as number[] }
  for (const [turn, isObserved] of TURNS.entries()) {
    step(`${isObserved ? 'observed' : 'plain'}, ${turn + 1} of ${TURNS.length}`)
    const run = (): Promise<number> => rateOf(server.uri, { seconds: seconds / 2, seed: turn + 1, directory })
    if (isObserved) rates.observed.push(await whileObserved(url, server.controlPath ?? '', run))
    else rates.plain.push(await run())
  }
  const [plain, observed] = [mean(rates.plain), mean(rates.observed)]
  return {
    value: Math.max(0, (1 - observed / plain) * 100),
    controlLatenciesMs: [],
    note: `${Math.round(plain)} requests a second, ${Math.round(observed)} while observed`,
  }
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length

async function rateOf(
  uri: string,
  options: { readonly seconds: number; readonly seed: number; readonly directory: string },
): Promise<number> {
  return (await runFio({ load: LOAD, uri, ...options })).requestsPerSecond
}

async function whileObserved(url: string, controlPath: string, run: () => Promise<number>): Promise<number> {
  const abort = new AbortController()
  const clients = await Promise.all(Array.from({ length: EVENT_CLIENTS }, () => QmpClient.connect(controlPath)))
  const scraped = scrape(url, abort.signal)
  try {
    return await run()
  } finally {
    abort.abort()
    await scraped
    await Promise.all(clients.map((client) => client.close()))
  }
}

/** @throws Error when there are no metrics to be had */
async function scrape(url: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const response = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${TOKEN}` } })
    const text = await response.text()
    if (!text.includes('nbd_remap_request_duration_seconds_bucket')) throw new Error(`no metrics: ${text}`)
    await delay(SCRAPE_MS, undefined, { signal }).catch(() => undefined)
  }
}
