/** `Mutation`: a request that changes content, as a value: it can be sent, kept, and sent again with the same effect. */

import type { NbdClient } from '../nbd/client.js'
import { unreachable } from '../util/assert.js'
import { MiB, alignDown } from '../util/units.js'
import { cutRange } from './pieces.js'

/** Offsets and lengths are in bytes; `length` is that of all chunks together. */
export type Mutation =
  | { readonly kind: 'write'; readonly offset: number; readonly length: number; readonly chunks: readonly Buffer[] }
  | { readonly kind: 'trim'; readonly offset: number; readonly length: number }
  | { readonly kind: 'write-zeroes'; readonly offset: number; readonly length: number; readonly noHole: boolean }

/** Written where the server has no WRITE_ZEROES. */
const ZEROES = Buffer.alloc(1 * MiB)

/**
 * Sends `mutation` with what the server offers: a trim may have no effect, zeros may be written as data.
 * @throws NbdServerError, NbdConnectionError, NbdProtocolError
 */
export async function sendMutation(client: NbdClient, mutation: Mutation, fua: boolean): Promise<void> {
  const { kind, offset, length } = mutation
  switch (kind) {
    case 'write':
      await client.write(offset, mutation.chunks, { fua })
      break
    case 'trim':
      if (client.flags.sendTrim) await client.trim(offset, length, { fua })
      break
    case 'write-zeroes':
      if (client.flags.sendWriteZeroes) await client.writeZeroes(offset, length, { fua, noHole: mutation.noHole })
      else await writeZeroesAsData(client, offset, length, fua)
      break
    default:
      unreachable(kind)
  }
}

async function writeZeroesAsData(client: NbdClient, offset: number, length: number, fua: boolean): Promise<void> {
  const { minimum, maximum } = client.blockSizes
  const pieceMax = alignDown(Math.min(maximum, ZEROES.length), minimum)
  for (const piece of cutRange(offset, length, pieceMax)) {
    await client.write(piece.offset, [ZEROES.subarray(0, piece.length)], { fua })
  }
}
