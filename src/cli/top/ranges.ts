/** The remaps of a running server for a picture of the disk, read page by page. */
import type { QmpClient } from '../../qmp/client.js'
import type { RemappedRange } from './heat.js'

export interface Ranges {
  readonly ranges: readonly RemappedRange[]
  /** More than there are ranges: only the first ones were asked for. */
  readonly total: number
}

const RANGES_PER_QUESTION = 10_000
/** Of more of them the picture would not be another one, but asking would keep the server busy. */
const RANGES_MAX = 100_000

/** @throws QmpError what the server, or the connection, says */
export async function askForRanges(client: QmpClient): Promise<Ranges> {
  const ranges: RemappedRange[] = []
  for (let total = Infinity, from = 0; ranges.length < Math.min(total, RANGES_MAX);) {
    const page = { 'from-sector': from, limit: RANGES_PER_QUESTION }
    const answer = (await client.execute('query-remaps', page)) as { remaps: RemappedRange[]; total: number }
    const last = answer.remaps.at(-1)
    if (!last) break
    ranges.push(...answer.remaps)
    from = last['main-sector'] + last.sectors
    total = answer.total
  }
  return { ranges, total: ranges.length < RANGES_MAX ? ranges.length : Infinity }
}
