/**
 * The work of `nbd-remap log`. A server that runs is asked, which is possible while a disk hangs; of one that is gone the log
 * file is read. Devices of the runtime directory stand in each line as `dm-remap NAME:`, so that what looks for dm-remap in the
 * kernel's log finds it here.
 */
import { existsSync, readFileSync } from 'node:fs'
import type { QmpClient } from '../qmp/client.js'
import { QmpConnectionError } from '../qmp/error.js'
import { parseLogLine } from '../util/log.js'
import { UsageError } from '../util/errors.js'
import { UnreachableError, withServer } from './ask.js'
import { controlledDevices, devicePaths, loggedDevices, runtimeDirectory } from './dmsetup/runtime-directory.js'
import type { LogOptions } from './log.js'

interface Line {
  readonly time: string
  readonly level: string
  readonly message: string
  readonly event?: string
  readonly device?: string
}

interface Source {
  readonly control: string
  readonly device?: string
  /** Of a device. */
  readonly file?: string
}

interface Page {
  readonly entries: readonly (Line & { readonly number: number })[]
  readonly last: number
}

const PAGE = 1000
const WAIT_SECONDS = 20

export async function showLog(name: string | undefined, options: LogOptions): Promise<void> {
  const sources = sourcesOf(name, options.control)
  if (sources.length === 0) process.stderr.write(`nbd-remap: there are no devices in ${runtimeDirectory()}\n`)
  const reads = await Promise.all(sources.map((source) => readAll(source, options)))
  const lines = reads.flatMap(({ lines: some }) => some).sort((a, b) => (a.time < b.time ? -1 : 1))
  for (const line of lines.slice(-(options.lines ?? lines.length))) print(line, options)
  if (!options.follow) return
  const running = reads.flatMap(({ source, last }) => (last === undefined ? [] : [{ source, last }]))
  await Promise.all(running.map(({ source, last }) => follow(source, last, options)))
}

/** @throws UsageError */
function sourcesOf(name: string | undefined, control: string | undefined): Source[] {
  if (name !== undefined && control !== undefined) throw new UsageError('give either a name or --control, not both')
  if (control !== undefined) return [{ control }]
  const devices = name === undefined ? [...loggedDevices(), ...controlledDevices()] : [devicePaths(name)]
  const sources = devices.map(({ name: device, control: path, log: file }) => [device, { device, control: path, file }])
  return [...new Map<string, Source>(sources as [string, Source][]).values()]
}

interface Read {
  readonly source: Source
  readonly lines: readonly Line[]
  /** The number of the newest entry of a server that runs. */
  readonly last?: number
}

async function readAll(source: Source, options: LogOptions): Promise<Read> {
  const keep = filterOf(source, options)
  try {
    return await withServer(source.control, async (client) => {
      const lines: Line[] = []
      const last = await readPages(client, 0, options, (some) => lines.push(...keep(some)))
      return { source, lines, last }
    })
  } catch (error) {
    if (!(error instanceof UnreachableError) || source.file === undefined) throw error
    if (!existsSync(source.file))
      throw new Error(`device ${source.device ?? ''} has no log: ${source.file} is not there`)
    return { source, lines: keep(readFiles(source.file, options)) }
  }
}

/** @returns the number of the newest entry that was seen */
async function readPages(
  client: QmpClient,
  since: number,
  { level }: LogOptions,
  take: (lines: readonly Line[]) => void,
  waitSeconds = 0,
): Promise<number> {
  for (let from = since; ;) {
    const args = { since: from, limit: PAGE, level, 'wait-seconds': waitSeconds }
    const { entries, last } = (await client.execute('query-log', args)) as Page
    take(entries)
    if (entries.length < PAGE) return last
    from = entries.at(-1)?.number ?? last
  }
}

/** Until the server is gone, or nobody reads what we print. */
async function follow(source: Source, last: number, options: LogOptions): Promise<void> {
  const keep = filterOf(source, options)
  const take = (lines: readonly Line[]): void => {
    for (const line of keep(lines)) print(line, options)
  }
  try {
    await withServer(source.control, async (client) => {
      let since = last
      while (process.stdout.writable) since = await readPages(client, since, options, take, WAIT_SECONDS)
    })
  } catch (error) {
    if (!(error instanceof UnreachableError) && !(error instanceof QmpConnectionError)) throw error
  }
}

const filterOf =
  ({ device }: Source, { grep }: LogOptions) =>
  (lines: readonly Line[]): Line[] =>
    lines
      .filter(({ message }) => grep?.test(message) ?? true)
      .map(({ time, level, message, event }) => ({
        time,
        level,
        message,
        ...(event !== undefined && { event }),
        ...(device !== undefined && { device }),
      }))

const LEVELS = ['debug', 'info', 'warn', 'error']

/** With what was renamed. What is no line of the log, as when the server crashed, is an error. */
function readFiles(path: string, { level }: LogOptions): Line[] {
  let time = ''
  const lines: Line[] = []
  for (const file of [`${path}.1`, path].filter((it) => existsSync(it))) {
    for (const text of readFileSync(file, 'utf8').split('\n')) {
      if (text === '') continue
      const line = parseLogLine(text) ?? { time, level: 'error', message: text }
      time = line.time
      if (LEVELS.indexOf(line.level) >= LEVELS.indexOf(level)) lines.push(line)
    }
  }
  return lines
}

function print(line: Line, { json }: LogOptions): void {
  const { time, level, device, message } = line
  const text = `${device === undefined ? '' : `dm-remap ${device}: `}${message}`
  process.stdout.write(json ? `${JSON.stringify(line)}\n` : `${time} ${level.padEnd(5)} ${text}\n`)
}
