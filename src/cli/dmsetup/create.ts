/**
 * `nbd-remap dmsetup create`: a server in the background. It is waited for until it is ready or has failed; what it says then
 * is what we say. The lock of the name is taken before it is started and belongs to it from then on, as an open file.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { text as textOf } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { lockFile } from '../../device/disk-lock.js'
import { resolveLocation } from '../../device/location.js'
import { messageOf, RefusedError, UsageError } from '../../util/errors.js'
import { parseLogLine } from '../../util/log.js'
import { EXIT } from '../exit.js'
import { claimRuntimeDirectory, devicePaths, type DevicePaths } from './runtime-directory.js'
import { parseTable, type TableLine } from './table-line.js'

const PROGRAM = fileURLToPath(new URL('../bin.cjs', import.meta.url))

/** @throws UsageError */
export async function readTable(file: string | undefined, line: string | undefined): Promise<string> {
  if (line !== undefined) {
    if (file !== undefined) throw new UsageError('give either a file or --table, not both')
    return line
  }
  if (file === undefined) return textOf(process.stdin)
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new UsageError(`cannot read the table: ${messageOf(error)}`)
  }
}

/** @throws Error when there is such a device; what the server failed with is printed, and is the exit code */
export async function createDevice(name: string, table: string, isReadOnly: boolean): Promise<void> {
  const paths = devicePaths(name)
  const line = parseTable(table)
  claimRuntimeDirectory()
  const lock = openSync(paths.lock, 'a', 0o600)
  const log = openSync(paths.log, 'a', 0o600)
  try {
    claim(lock, paths)
    const logged = fstatSync(log).size
    const outcome = await outcomeOf(startServer(paths, line, isReadOnly, { lock, log }))
    if ('uri' in outcome) process.stdout.write(`${outcome.uri}\n`)
    else fail(paths, logged, outcome.exitCode)
  } finally {
    closeSync(lock)
    closeSync(log)
  }
}

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
function startServer(
  paths: DevicePaths,
  line: TableLine,
  isReadOnly: boolean,
  { lock, log }: Descriptors,
): ChildProcess {
  const { sectors, blockSize } = line
  const args = [
    ...['serve', '--main', resolveLocation(line.main), '--spare', resolveLocation(line.spare)],
    ...['--name', paths.name, '--sectors', String(sectors)],
    ...['--socket', paths.socket, '--control', paths.control, '--log-file', paths.log],
    ...(isReadOnly ? ['--read-only'] : ['--create', '--block-size', String(blockSize)]),
  ]
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

/** Repeats what it has said beside its log. */
function fail({ log }: DevicePaths, logged: number, exitCode: number | null): void {
  const said = plainLines(readFileSync(log).subarray(logged).toString())
  process.stderr.write(said === '' ? `nbd-remap: the server ended before it was ready: see ${log}\n` : said)
  process.exitCode = exitCode === null || exitCode === 0 ? EXIT.failed : exitCode
}

const plainLines = (text: string): string =>
  text
    .split('\n')
    .filter((line) => line !== '' && parseLogLine(line) === undefined)
    .map((line) => `${line}\n`)
    .join('')
