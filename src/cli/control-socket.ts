/**
 * The unix socket of the control commands. It is bound before a disk is opened, so that a path that cannot be had costs
 * nothing; who connects meanwhile waits for the monitor. Only its owner may connect, which is the umask's doing: see
 * `ControlThread.listen`.
 */
import type { QmpMonitor } from '../qmp/monitor.js'
import { Listener } from '../server/listener.js'
import type { Log } from '../util/log.js'
import { claimSocketPath } from '../util/socket-path.js'
import { advising } from './listen.js'
import { WaitingRoom } from './waiting-room.js'

export class ControlSocket {
  readonly #listener: Listener
  readonly #room: WaitingRoom

  private constructor(listener: Listener, room: WaitingRoom) {
    this.#listener = listener
    this.#room = room
  }

  /** @throws Error with a sentence for people */
  static listen(path: string, log: Log): Promise<ControlSocket> {
    return advising('--control', async () => {
      await claimSocketPath(path)
      const room = new WaitingRoom()
      return new ControlSocket(await Listener.open({ path }, room.admit, log), room)
    })
  }

  open(monitor: QmpMonitor): void {
    this.#room.open((socket) => {
      monitor.accept(socket)
    })
  }

  close(): void {
    this.#room.close()
    this.#listener.close()
  }
}
