/** Requests of an operator that concern many ranges: sent in parts, with the progress on standard error. */
import { readFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import type { QmpClient } from '../qmp/client.js'
import type { QmpEvent } from '../qmp/message.js'
import type { ListRange, ParseOptions } from '../util/lists/list.js'
import { fileProblem } from '../util/errors.js'
import { withServer } from './ask.js'

/** Ranges of one message: with all their members they stay well below its limit of 1 MiB. */
const RANGES_PER_MESSAGE = 5000

/** @param from a path, or `-` for standard input @throws Error with a sentence for people */
export async function readList(from: string, options: ParseOptions): Promise<readonly ListRange[]> {
  const { parseList } = await import('../util/lists/list.js')
  const { ListError } = await import('../util/lists/lines.js')
  try {
    const content = from === '-' ? await text(process.stdin) : await readFile(from, 'utf8')
    return parseList(content, options)
  } catch (error) {
    const separator = error instanceof ListError ? ', ' : ': '
    throw new Error(`--from ${nameOf(from)}${separator}${fileProblem(error)}`, { cause: error })
  }
}

export interface Batch {
  readonly ranges: readonly ListRange[]
  /** Where they come from, for messages; `undefined`: the command line. */
  readonly from?: string | undefined
}

/** Sends all ranges as one batch, has it carried out, and returns what that returned. @throws Error with a sentence */
export function runBatch<T>(
  control: string,
  { ranges, from }: Batch,
  options: Readonly<Record<string, unknown>>,
): Promise<T> {
  return withServer(control, (client) =>
    saying(from, async () => {
      let batch: number | undefined
      for (let first = 0; first < ranges.length; first += RANGES_PER_MESSAGE) {
        const part = ranges.slice(first, first + RANGES_PER_MESSAGE).map(describe)
        const args = { ranges: part, ...(batch === undefined ? {} : { batch }) }
        const answer = (await client.execute('remap-batch-append', args)) as { readonly batch: number }
        ;({ batch } = answer)
      }
      if (batch === undefined) throw new Error('there is nothing to do: the list names no range')
      return showingProgress(
        client,
        REMAP_PROGRESS,
        () => client.execute('remap-batch-run', { batch, ...options }) as Promise<T>,
      )
    }),
  )
}

/** What is shown of a command that takes long. */
export interface ShownProgress {
  readonly event: string
  readonly line: (event: QmpEvent) => string
}

const REMAP_PROGRESS: ShownProgress = {
  event: 'REMAP_PROGRESS',
  line: ({ data }) => {
    const { phase, 'done-blocks': done, 'total-blocks': total } = data as Record<string, string | number>
    return `${String(phase)}: ${String(done)} of ${String(total)} blocks\n`
  },
}

/** Has a command carried out that may take long. @throws Error with a sentence for people */
export const runLong = <T>(
  control: string,
  command: string,
  args: Readonly<Record<string, unknown>>,
  progress = REMAP_PROGRESS,
): Promise<T> =>
  withServer(control, (client) =>
    saying(undefined, () =>
      showingProgress(client, progress, () => client.execute(command, { ...args }) as Promise<T>),
    ),
  )

/** The words of the server, and the file whose line they name. */
async function saying<T>(from: string | undefined, action: () => Promise<T>): Promise<T> {
  const { QmpCommandError } = await import('../qmp/error.js')
  try {
    return await action()
  } catch (error) {
    if (!(error instanceof QmpCommandError)) throw error
    const where = from !== undefined && error.desc.startsWith('line ') ? `${nameOf(from)}, ` : ''
    throw new Error(where + error.desc, { cause: error })
  }
}

const nameOf = (from: string): string => (from === '-' ? 'standard input' : from)

const describe = ({ mainSector, sectors, spareSector, lost, line }: ListRange): Record<string, unknown> => ({
  'main-sector': mainSector,
  sectors,
  ...(line === 0 ? {} : { line }),
  ...(spareSector === undefined ? {} : { 'spare-sector': spareSector }),
  ...(lost ? { lost } : {}),
})

async function showingProgress<T>(
  client: QmpClient,
  { event: name, line }: ShownProgress,
  action: () => Promise<T>,
): Promise<T> {
  const events = client.events(name)
  const shown = (async () => {
    for await (const event of events) process.stderr.write(line(event))
  })().catch(() => undefined)
  try {
    return await action()
  } finally {
    events.close()
    await shown
  }
}
