/** Connections that arrive before there is a server to take them: they are kept, unread, until there is one. */
import type { Socket } from 'node:net'

/** More than that are dropped, those first who have waited longest: most likely they have given up. */
export const CONNECTIONS_WAITING_MAX = 128

export class WaitingRoom {
  #accept: ((socket: Socket) => void) | undefined
  readonly #waiting: Socket[] = []

  readonly admit = (socket: Socket): void => {
    if (this.#accept) {
      this.#accept(socket)
      return
    }
    socket.on('error', () => undefined)
    this.#waiting.push(socket)
    if (this.#waiting.length > CONNECTIONS_WAITING_MAX) this.#waiting.shift()?.destroy()
  }

  /** From now on, and for those who wait already. */
  open(accept: (socket: Socket) => void): void {
    this.#accept = accept
    for (const socket of this.#waiting.splice(0)) accept(socket)
  }

  close(): void {
    for (const socket of this.#waiting.splice(0)) socket.destroy()
  }
}
