/** All remaps of a running server as a list. */
import { printList, type ListFormat } from '../util/lists/list.js'
import { withServer } from './ask.js'
import { allPages, type PagedRange } from './pages.js'
import { print } from './print.js'

interface Range extends PagedRange {
  readonly 'spare-sector': number
}

export const exportRemaps = (control: string, options: { format: ListFormat; unit: number }): Promise<void> =>
  withServer(control, async (client) => {
    const { main } = (await client.execute('query-status')) as { readonly main: { readonly size: number } }
    const remaps = await allPages<Range>(client, 'query-remaps', 'remaps')
    const lost = await allPages<Range>(client, 'query-lost', 'lost')
    const describe = (range: Range): { mainSector: number; spareSector: number; sectors: number } => ({
      mainSector: range['main-sector'],
      spareSector: range['spare-sector'],
      sectors: range.sectors,
    })
    const source = { size: main.size, remaps: remaps.map(describe), lost: lost.map(describe) }
    await print(printList(source, options))
  })
