/** `nbd-remap dmsetup create`: a server in the background for a table line. What it says when it fails is what we say. */
import { readFileSync } from 'node:fs'
import { text as textOf } from 'node:stream/consumers'
import { resolveLocation } from '../../device/location.js'
import { fileProblem, UsageError } from '../../util/errors.js'
import { EXIT } from '../exit.js'
import { startInBackground } from './background.js'
import { devicePaths } from './runtime-directory.js'
import { parseTable } from './table-line.js'

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
    throw new UsageError(`the table in ${file} cannot be read: ${fileProblem(error)}`, { cause: error })
  }
}

export interface HowToServe {
  readonly readonly?: boolean
  /** See `serve --supervise`. */
  readonly supervise?: boolean
}

/** @throws Error when there is such a device; what the server failed with is printed, and is the exit code */
export async function createDevice(name: string, table: string, { readonly, supervise }: HowToServe): Promise<void> {
  const paths = devicePaths(name)
  const { main, spare, sectors, blockSize } = parseTable(table)
  const started = await startInBackground(paths, [
    ...['--main', resolveLocation(main), '--spare', resolveLocation(spare), '--sectors', String(sectors)],
    ...(readonly ? ['--read-only'] : ['--create', '--block-size', String(blockSize)]),
    ...(supervise ? ['--supervise'] : []),
  ])
  if ('uri' in started) {
    process.stdout.write(`${started.uri}\n`)
    return
  }
  process.stderr.write(started.said)
  process.exitCode = started.exitCode === null || started.exitCode === 0 ? EXIT.failed : started.exitCode
}
