/**
 * What is sent to one client of ours. Replies wait for a slow client. Events do not: they are dropped, and a marker says how
 * many as soon as there is room.
 */

import type { QmpConnection } from './connection.js'
import { EVENTS_DROPPED, formatEvent, timestamp } from './message.js'

export class Outlet {
  readonly #socket: QmpConnection
  readonly #queuedBytesMax: number
  #dropped = 0

  /** @param queuedBytesMax that wait for the client to read them, before events are dropped */
  constructor(socket: QmpConnection, queuedBytesMax: number) {
    this.#socket = socket
    this.#queuedBytesMax = queuedBytesMax
    socket.on('drain', () => {
      this.#sendMarker()
    })
  }

  /** Sends an event, or counts it as dropped. */
  sendEvent(text: Buffer): void {
    this.#sendMarker()
    if (this.#dropped > 0 || this.#socket.writableLength + text.length > this.#queuedBytesMax) this.#dropped++
    else this.#socket.write(text)
  }

  /** Resolves when the client has read enough of what was sent to it, or is gone. */
  async room(): Promise<void> {
    const socket = this.#socket
    while (socket.writableLength > this.#queuedBytesMax && socket.writableNeedDrain && !socket.destroyed) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          socket.off('drain', done).off('close', done)
          resolve()
        }
        socket.on('drain', done).on('close', done)
      })
    }
  }

  #sendMarker(): void {
    if (this.#dropped === 0 || this.#socket.writableLength > this.#queuedBytesMax / 2) return
    const data = { count: this.#dropped }
    this.#dropped = 0
    this.#socket.write(formatEvent({ event: EVENTS_DROPPED, data, timestamp: timestamp(Date.now()) }))
  }
}
