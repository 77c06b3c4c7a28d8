/**
 * Measures a `compare` job: the servers take turns, round after round, and each round begins with another one. On a machine
 * with neighbours the speed of the moment matters more than the server, so only figures of the same rounds are compared. The
 * control socket is asked in a run of its own: whoever asks takes processor time, which the peers have for themselves.
 */
import path from 'node:path'
import { whileProbed } from './control-probe.js'
import { runFio, type LoadResult } from './fio.js'
import { writeBack } from './images.js'
import type { CompareJob, ServerName } from './job.js'
import { cpuSeconds } from './proc.js'
import type { BenchServer } from './servers.js'

/** One run of fio against one server. */
export interface Sample extends LoadResult {
  readonly cpuUsPerRequest: number
}

export interface ServerSamples {
  readonly server: ServerName
  readonly samples: readonly Sample[]
}

export interface Rounds {
  /** Ours first. */
  readonly servers: readonly ServerSamples[]
  readonly controlLatenciesMs: readonly number[]
}

export interface RoundOptions {
  readonly rounds: number
  /** Of one run. */
  readonly seconds: number
  /** For fio's files. */
  readonly directory: string
  readonly step: (text: string) => void
}

/** Of the run before the first round, which is not counted: compilers and caches warm up. */
const WARM_UP_SECONDS_MAX = 1

export async function measureRounds(
  job: CompareJob,
  started: readonly BenchServer[],
  options: RoundOptions,
): Promise<Rounds> {
  const servers = started.filter(({ name }) => name === 'nbd-remap' || job.peers.includes(name))
  const samples = new Map(servers.map(({ name }) => [name, [] as Sample[]]))
  const run = (server: BenchServer, seconds: number, seed: number): Promise<Sample> =>
    measureOnce(job, server, { ...options, seconds, seed })
  let seed = 0
  for (let round = 0; round <= options.rounds; round++) {
    for (const server of rotated(servers, round)) {
      const isWarmUp = round === 0
      options.step(`${isWarmUp ? 'warm-up' : `round ${round} of ${options.rounds}`}, ${server.name}`)
      const seconds = isWarmUp ? Math.min(options.seconds, WARM_UP_SECONDS_MAX) : options.seconds
      // Never the same offsets twice: on a shared file the second reader would find them cached.
      const sample = await run(server, seconds, ++seed)
      if (!isWarmUp) samples.get(server.name)?.push(sample)
    }
  }
  const controlLatenciesMs: number[] = []
  for (const server of servers) {
    if (server.controlPath === undefined) continue
    options.step(`control socket, ${server.name}`)
    const { latenciesMs } = await whileProbed(server.controlPath, () => run(server, options.seconds, ++seed))
    controlLatenciesMs.push(...latenciesMs)
  }
  return {
    servers: servers.map(({ name }) => ({ server: name, samples: samples.get(name) ?? [] })),
    controlLatenciesMs,
  }
}

function rotated<T>(items: readonly T[], by: number): T[] {
  const start = by % items.length
  return [...items.slice(start), ...items.slice(0, start)]
}

async function measureOnce(
  { load }: CompareJob,
  server: BenchServer,
  options: { readonly seconds: number; readonly seed: number; readonly directory: string },
): Promise<Sample> {
  const cpuBefore = cpuSeconds(server.pid)
  const result = await runFio({ load, uri: server.uri, ...options, directory: path.resolve(options.directory) })
  const cpuUsPerRequest = ((cpuSeconds(server.pid) - cpuBefore) * 1e6) / result.requests
  if (server.image !== undefined) await writeBack(server.image)
  return { ...result, cpuUsPerRequest }
}
