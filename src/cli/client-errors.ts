/**
 * CLIENT_ERROR events: what clients were told. A disk that is gone fails thousands of requests in a second, so only some are
 * told, and each one says how many before it were not.
 */
import type { ClientInfo } from '../server/connection.js'
import type { RequestFailure } from '../server/transmission.js'
import { TokenBucket } from '../util/token-bucket.js'
import { SECTOR_SIZE } from '../util/units.js'

const PER_SECOND = 20
const BURST = 200

export interface ClientErrorData {
  readonly id: number
  readonly 'export-name': string
  readonly operation: string
  readonly sector: number
  readonly sectors: number
  readonly error: string
  readonly reply: string
  readonly 'blocks-needed'?: number
  readonly untold: number
  readonly fault?: number
}

/**
 * @param now milliseconds on a steady clock
 * @returns what takes the failures, from the data path
 */
export function clientErrors(
  tell: (data: ClientErrorData) => void,
  now: () => number = () => performance.now(),
): (client: ClientInfo, failure: RequestFailure) => void {
  const bucket = new TokenBucket(PER_SECOND, BURST)
  let untold = 0
  return ({ id, exportName }, { operation, offset, length, code, reply, blocksNeeded, fault }) => {
    if (!bucket.take(now())) {
      untold++
      return
    }
    const sector = Math.floor(offset / SECTOR_SIZE)
    const sectors = Math.ceil((offset + length) / SECTOR_SIZE) - sector
    const name = operation.toLowerCase().replaceAll('_', '-')
    tell({
      ...{ id, 'export-name': exportName, operation: name, sector, sectors, error: code, reply },
      ...(blocksNeeded !== undefined && { 'blocks-needed': blocksNeeded }),
      untold,
      ...(fault !== undefined && { fault }),
    })
    untold = 0
  }
}
