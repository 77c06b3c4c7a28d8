/**
 * A server in the background, known by its name: waited for until it is ready or has failed. The lock of the name is taken
 * before it is started and belongs to it from then on, as an open file. Nothing is kept about it but its sockets.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { lockFile } from '../../device/disk-lock.js'
import { RefusedError } from '../../util/errors.js'
import { parseLogLine } from '../../util/log.js'
import { claimRuntimeDirectory, type DevicePaths } from './runtime-directory.js'

const PROGRAM = fileURLToPath(new URL('../bin.cjs', import.meta.url))

/** The URI to connect to, or what the server said when it could not start. */
export type Started = { readonly uri: string } | { readonly said: string; readonly exitCode: number | null }

/**
 * Starts `nbd-remap serve` for a name.
 * @param args beyond those for its name, its sockets and its log
 * @throws Error when there is one of that name
 */
export async function startInBackground(paths: DevicePaths, args: readonly string[]): Promise<Started> {
  claimRuntimeDirectory()
  const lock = openSync(paths.lock, 'a', 0o600)
  const log = openSync(paths.log, 'a', 0o600)
  try {
    claim(lock, paths)
    const logged = fstatSync(log).size
    const outcome = await outcomeOf(startServer(serveArguments(paths, args), { lock, log }))
    if ('uri' in outcome) return outcome
    const said = saidSince(paths, logged) || `nbd-remap: the server ended before it was ready: see ${paths.log}\n`
    return { ...outcome, said }
  } finally {
    closeSync(lock)
    closeSync(log)
  }
}

/** The arguments of the program, `serve` first. */
export const serveArguments = (paths: DevicePaths, args: readonly string[]): string[] => [
  ...['serve', ...args, '--name', paths.name],
  ...['--socket', paths.socket, '--control', paths.control, '--log-file', paths.log],
]

function claim(lock: number, { name }: DevicePaths): void {
  try {
    lockFile(lock, name, 'exclusive')
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error
    throw new Error(`device ${name} exists already: remove it first, or take another name`, { cause: error })
  }
}

interface Descriptors {
  readonly lock: number
  readonly log: number
}

/** What does not go to the log file by the server's own doing, as when it crashes, goes there all the same. */
function startServer(args: readonly string[], { lock, log }: Descriptors): ChildProcess {
  return spawn(process.execPath, [PROGRAM, ...args], { detached: true, stdio: ['ignore', 'pipe', log, lock] })
}

type Outcome = { readonly uri: string } | { readonly exitCode: number | null }

/** Once it is ready, the server is on its own, and we may end. */
async function outcomeOf(server: ChildProcess): Promise<Outcome> {
  const interrupt = (): void => {
    server.kill('SIGTERM')
  }
  for (const signal of SIGNALS) process.on(signal, interrupt)
  try {
    return await new Promise<Outcome>((resolve, reject) => {
      let uri = ''
      server.once('error', reject)
      server.once('close', (exitCode) => {
        resolve({ exitCode })
      })
      server.stdout?.on('data', (data: Buffer) => {
        uri += data.toString()
        if (uri.includes('\n')) resolve({ uri: uri.trim() })
      })
    })
  } finally {
    for (const signal of SIGNALS) process.off(signal, interrupt)
    server.unref()
    server.stdout?.destroy()
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const

/** What it has said beside its log, since that had so many bytes. */
export const saidSince = ({ log }: DevicePaths, logged: number): string =>
  plainLines(readFileSync(log).subarray(logged).toString())

const plainLines = (text: string): string =>
  text
    .split('\n')
    .filter((line) => line !== '' && parseLogLine(line) === undefined)
    .map((line) => `${line}\n`)
    .join('')
