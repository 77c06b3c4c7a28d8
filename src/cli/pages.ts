/** Lists of ranges that a server gives page by page: what changes meanwhile may be in them or not. */
import type { QmpClient } from '../qmp/client.js'

const RANGES_PER_PAGE = 20_000

export interface PagedRange {
  readonly 'main-sector': number
  readonly sectors: number
}

/** @param member of the answer, which has the list @param most ends the list when it has become so long */
export async function allPages<T extends PagedRange>(
  client: QmpClient,
  command: string,
  member: string,
  most = Infinity,
): Promise<T[]> {
  const all: T[] = []
  for (let from = 0; all.length < most;) {
    const args = { 'from-sector': from, limit: RANGES_PER_PAGE }
    const page = ((await client.execute(command, args)) as Record<string, readonly T[]>)[member] ?? []
    all.push(...page)
    const last = page.at(-1)
    if (last === undefined || page.length < RANGES_PER_PAGE) break
    from = last['main-sector'] + last.sectors
  }
  return all
}
