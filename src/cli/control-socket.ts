/**
 * A listening socket of the control commands. It is bound before a disk is opened, so that an address that cannot be had
 * costs nothing; who connects meanwhile waits for the monitor. To a unix socket only its owner may connect, which is the
 * umask's doing: see `ControlThread.listen`.
 */
import type { QmpMonitor } from '../qmp/monitor.js'
import { Listener } from '../server/listener.js'
import type { Log } from '../util/log.js'
import { claimSocketPath } from '../util/socket-path.js'
import { advising } from './listen.js'
import type { ControlAddress } from './options.js'
import { WaitingRoom } from './waiting-room.js'

export class ControlSocket {
  readonly #listener: Listener
  readonly #room: WaitingRoom

  private constructor(listener: Listener, room: WaitingRoom) {
    this.#listener = listener
    this.#room = room
  }

  /** @throws Error with a sentence for people */
  static listen(address: ControlAddress, log: Log): Promise<ControlSocket> {
    return advising('--control', async () => {
      if ('path' in address) await claimSocketPath(address.path)
      const room = new WaitingRoom()
      return new ControlSocket(await Listener.open(address, room.admit, log), room)
    })
  }

  /** With the port that was chosen, when any would do. */
  get address(): ControlAddress {
    return this.#listener.address
  }

  open(monitor: QmpMonitor): void {
    const mayBePage = !('path' in this.address)
    this.#room.open((socket) => {
      socket.setNoDelay(true)
      monitor.accept(socket, { mayBePage })
    })
  }

  close(): void {
    this.#room.close()
    this.#listener.close()
  }
}
