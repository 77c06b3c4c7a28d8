/** All remaps of a running server as a list, read page by page: what changes meanwhile may be in it or not. */
import type { QmpClient } from '../qmp/client.js'
import { printList, type ListFormat } from '../util/lists/list.js'
import { withServer } from './ask.js'
import { print } from './print.js'

const RANGES_PER_PAGE = 20_000

interface Range {
  readonly 'main-sector': number
  readonly 'spare-sector': number
  readonly sectors: number
}

export const exportRemaps = (control: string, options: { format: ListFormat; unit: number }): Promise<void> =>
  withServer(control, async (client) => {
    const { main } = (await client.execute('query-status')) as { readonly main: { readonly size: number } }
    const remaps = await allPages(client, 'query-remaps', 'remaps')
    const lost = await allPages(client, 'query-lost', 'lost')
    const describe = (range: Range): { mainSector: number; spareSector: number; sectors: number } => ({
      mainSector: range['main-sector'],
      spareSector: range['spare-sector'],
      sectors: range.sectors,
    })
    const source = { size: main.size, remaps: remaps.map(describe), lost: lost.map(describe) }
    await print(printList(source, options))
  })

async function allPages(client: QmpClient, command: string, member: 'remaps' | 'lost'): Promise<Range[]> {
  const all: Range[] = []
  for (let from = 0; ;) {
    const args = { 'from-sector': from, limit: RANGES_PER_PAGE }
    const page = ((await client.execute(command, args)) as Record<typeof member, readonly Range[]>)[member]
    all.push(...page)
    const last = page.at(-1)
    if (last === undefined || page.length < RANGES_PER_PAGE) return all
    from = last['main-sector'] + last.sectors
  }
}
