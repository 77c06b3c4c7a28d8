/**
 * How the server says that it accepts connections, and that it stops: one line on standard output, and sd_notify(3) to a
 * service manager that asked for it with NOTIFY_SOCKET.
 *
 * That socket takes datagrams, which Node.js cannot send to a unix socket, so `systemd-notify` does it: where systemd sets
 * NOTIFY_SOCKET, systemd has installed it. As it is another process, the unit needs NotifyAccess=all.
 */
import { spawn } from 'node:child_process'
import { messageOf } from '../util/errors.js'
import type { Log } from '../util/log.js'

const NOTIFIER = 'systemd-notify'

export class Readiness {
  readonly #prints: boolean
  readonly #log: Log
  readonly #onReady: (() => void) | undefined
  readonly #notifySocket: string | undefined

  /**
   * Takes NOTIFY_SOCKET out of the environment: no child should speak for the server.
   * @param prints whether standard output is ours: whoever passed us the sockets knows where they are, and may have lent us
   * the standard output of another program
   */
  constructor({ prints, log, onReady }: { prints: boolean; log: Log; onReady?: () => void }) {
    this.#prints = prints
    this.#onReady = onReady
    this.#log = log
    this.#notifySocket = process.env['NOTIFY_SOCKET']
    Reflect.deleteProperty(process.env, 'NOTIFY_SOCKET')
  }

  ready(uri: string): void {
    if (this.#prints) process.stdout.write(`${uri}\n`)
    else this.#log.info(`serving ${uri}`)
    this.#notify('READY=1', `STATUS=serving ${uri}`)
    this.#onReady?.()
  }

  /** For a service manager that is the end of the start: the rest may take years. */
  standingBy(): void {
    this.#notify('READY=1', 'STATUS=standing by')
  }

  stopping(): void {
    this.#notify('STOPPING=1')
  }

  #notify(...assignments: readonly string[]): void {
    if (this.#notifySocket === undefined || this.#notifySocket === '') return
    const env = { ...process.env, NOTIFY_SOCKET: this.#notifySocket }
    const child = spawn(NOTIFIER, assignments, { env, stdio: 'ignore' })
    // It waits for the service manager to have read it; our own end does not.
    child.unref()
    const warn = (why: string): void => {
      this.#log.warn(`cannot notify the service manager of ${assignments[0] ?? ''}: ${why}`)
    }
    child.once('error', (error) => {
      warn(`${NOTIFIER}: ${messageOf(error)}`)
    })
    child.once('exit', (code, signal) => {
      if (code !== 0) warn(`${NOTIFIER} ended with ${signal ?? String(code)}`)
    })
  }
}
