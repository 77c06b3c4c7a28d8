/** What QMP is spoken over, on either side: a socket, or what looks like one. */
import type { Duplex } from 'node:stream'

export type QmpConnection = Duplex & {
  /** Ends it when everything that was written has left. */
  destroySoon(): void
}
