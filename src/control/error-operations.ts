/** The data plane's side of the commands about errors. Arguments have been checked in the control thread. */
import type { JsonObject } from '../qmp/message.js'
import type { ErrorPage } from '../remap/error-history.js'
import type { Pair } from '../remap/pair.js'
import { SECTOR_SIZE } from '../util/units.js'
import { ERRORS_LIMIT_DEFAULT, named, type ErrorHistoryReply } from './error-commands.js'

interface HistoryArguments {
  readonly 'from-sector'?: number
  readonly limit?: number
  readonly order?: ErrorPage['order']
}

export const errorOperations = (pair: Pair): [string, (args: JsonObject) => unknown][] => [
  ['query-error-history', (args: HistoryArguments) => queryHistory(pair, args)],
]

function queryHistory({ target }: Pair, args: HistoryArguments): ErrorHistoryReply {
  const blockSectors = target.blocks.blockSize / SECTOR_SIZE
  const { blocks, total } = target.errors.list({
    fromBlock: Math.floor((args['from-sector'] ?? 0) / blockSectors),
    limit: args.limit ?? ERRORS_LIMIT_DEFAULT,
    order: args.order ?? 'sector',
  })
  const sizeSectors = Math.ceil(target.size / SECTOR_SIZE)
  return {
    blocks: blocks.map(({ block, counts, firstMs, lastMs, outcome }) => ({
      'main-sector': block * blockSectors,
      sectors: Math.min(blockSectors, sizeSectors - block * blockSectors),
      ...named(counts),
      first: new Date(firstMs).toISOString(),
      last: new Date(lastMs).toISOString(),
      outcome,
    })),
    total,
    dropped: target.errors.counts.dropped,
  }
}
