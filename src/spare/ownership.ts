/**
 * Does the spare still belong to this server? Locks keep two servers of one machine apart; over the network they do not
 * reach, so every server leaves its mark in the header when it takes a spare over, an epoch that counts the owners and a
 * random number, and looks before it writes metadata whether its own mark is still there.
 *
 * There is no writing to a disk on condition. Between looking and writing another server may take over, so the one that
 * takes over reads what it has read anew once its own mark is durable.
 */
import { randomBytes } from 'node:crypto'
import { DeviceError } from '../device/device.js'
import type { HeaderCopy } from './choose.js'
import type { Header } from './format.js'

/** Another server has the spare now: this one must write no more. */
export class OwnershipLostError extends DeviceError {
  override name = 'OwnershipLostError'
  constructor(
    device: string,
    readonly reason: string,
  ) {
    super('ESHUTDOWN', device, 'write', 0, 0)
    this.message = `spare ${device} belongs to another server now: ${reason}`
  }
}

/** What tells the headers of one server from those of all others. */
export interface OwnerMark {
  readonly uuid: Buffer
  readonly epoch: number
  /** Random: two servers that start at the same moment draw the same epoch. */
  readonly owner: Buffer
}

const OWNER_BYTES = 8
export const newOwner = (): Buffer => randomBytes(OWNER_BYTES)

/**
 * `contested`: a server that started at the same moment has written over some copies of our header, and gives way when it
 * sees that we write them again. When it has written over all of them it does not, and we do.
 */
export type OwnerVerdict =
  { readonly kind: 'ours' } | { readonly kind: 'contested' } | { readonly kind: 'lost'; readonly reason: string }

/** What the copies of the header say. Copies that are damaged, unreadable or older than ours say nothing. */
export function judgeOwner(mine: OwnerMark, copies: readonly HeaderCopy[]): OwnerVerdict {
  if (copies.some(({ kind }) => kind === 'unknown-version')) return lost('a newer nbd-remap wrote to it')
  if (copies.every(({ kind }) => kind === 'absent')) return lost('its headers are gone')
  const headers = copies.flatMap((copy) => (copy.kind === 'valid' ? [copy.header] : []))
  if (headers.some(({ uuid }) => !uuid.equals(mine.uuid))) return lost('it was formatted anew')
  const newest = headers.find(({ ownerEpoch }) => ownerEpoch > mine.epoch)
  if (newest) return lost(`it was taken over (owner epoch ${newest.ownerEpoch}, and this server has ${mine.epoch})`)
  const orders = headers.filter((header) => header.ownerEpoch === mine.epoch).map((it) => compareOwners(mine, it))
  const isForeign = orders.length > 0 && !orders.includes(0)
  if (isForeign || orders.includes(1)) return lost('another server that started at the same moment has it')
  return orders.includes(-1) ? { kind: 'contested' } : { kind: 'ours' }
}

const lost = (reason: string): OwnerVerdict => ({ kind: 'lost', reason })

/** 0: the header is ours; 1: that of a rival who wins. */
const compareOwners = ({ owner }: OwnerMark, { notes }: Header): number => Buffer.compare(notes.owner ?? NOBODY, owner)
const NOBODY = Buffer.alloc(0)
