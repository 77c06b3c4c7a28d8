/**
 * `ControlThread`: the control thread, as the thread that serves NBD sees it. It boots while the disks are opened. When it
 * fails, the process does: a server that nobody can ask any more should be started anew.
 */
import { Worker } from 'node:worker_threads'
import { Answering, type Present } from '../control/answering.js'
import type { Facts, NbdClient } from '../control/messages.js'
import type { Operations } from '../control/operations.js'
import type { RemapEventSink } from '../remap/events.js'
import { teeLog, type Log } from '../util/log.js'
import type { ControlOrder, ControlReport } from './control-main.js'
import type { ClientErrorData } from './client-errors.js'
import type { ToldFault } from './injected-disks.js'
import type { ControlAccess } from './control-plane.js'

export class ControlThread {
  /** What is logged here can be asked for over the control socket, too. */
  readonly log: Log
  readonly #thread = new Worker(new URL('./control-main.js', import.meta.url))
  readonly #exited: Promise<void>
  #answering: Answering | undefined
  #onReport: (report: ControlReport) => void = () => undefined
  #isBooted = false
  #isClosing = false

  /** Begins to boot. */
  constructor(log: Log) {
    this.log = teeLog(log, (level, message) => {
      this.#send({ kind: 'log', level, message })
    })
    this.#thread.on('message', (report: ControlReport) => {
      this.#receive(report)
    })
    this.#thread.on('error', (error) => {
      throw error
    })
    this.#exited = new Promise((resolve, reject) => {
      this.#thread.once('exit', () => {
        if (this.#isClosing) resolve()
        else reject(new Error('the control thread ended'))
      })
    })
  }

  /** Takes connections; on a unix socket from its owner alone. @throws Error with a sentence for people */
  async listen({ control, http, hook }: ControlAccess): Promise<void> {
    while (!this.#isBooted) await this.#nextReport()
    // A socket takes its mode from the umask when it is bound, and a thread cannot set that: it belongs to the process.
    const umask = process.umask(0o177)
    try {
      this.#send({ kind: 'listen', access: { control, http, hook } })
      const report = await this.#nextReport()
      if (report.kind === 'refused') throw new Error(report.message)
    } finally {
      process.umask(umask)
    }
  }

  /** The disks are open: answers the questions that came before, and all to come. */
  open(facts: Facts, operations: Operations, present: Present): void {
    const send = this.#send.bind(this)
    this.#answering = new Answering(send, operations, present)
    send({ kind: 'spares', spares: present.spares() })
    send({ kind: 'facts', facts })
  }

  readonly emit: RemapEventSink = (event, data) => {
    this.#send({ kind: 'event', event, data: { ...data } })
  }

  /** An event of the NBD server that changes nothing about its clients. */
  emitOfServer(event: 'CLIENT_ERROR' | 'FAULT_INJECTED', data: ClientErrorData | ToldFault): void {
    this.#send({ kind: 'event', event, data: { ...data } })
  }

  /** A client came or left, and this is how it looks now. */
  tellClients(
    event: 'CLIENT_CONNECTED' | 'CLIENT_DISCONNECTED',
    { id, address, exportName }: NbdClient,
    clients: readonly NbdClient[],
  ): void {
    this.#send({ kind: 'clients', clients })
    this.#send({ kind: 'event', event, data: { id, address, 'export-name': exportName } })
  }

  /** Hangs up, once the replies that are under way have left, and resolves when the thread has ended. */
  async close(): Promise<void> {
    this.#isClosing = true
    this.#send({ kind: 'close' })
    await this.#exited
  }

  #send(order: ControlOrder): void {
    this.#thread.postMessage(order)
  }

  #receive(report: ControlReport): void {
    if (report.kind === 'log') this.log[report.level](report.message)
    else if (report.kind === 'question') void this.#answering?.receive(report)
    else {
      if (report.kind === 'booted') this.#isBooted = true
      this.#onReport(report)
    }
  }

  #nextReport(): Promise<ControlReport> {
    return new Promise((resolve) => {
      this.#onReport = resolve
    })
  }
}
