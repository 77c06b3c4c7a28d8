/**
 * What runs in the control thread: the monitor and its socket. It never waits for the thread that serves NBD without a
 * limit (promise P8), and its own start is over before the URI is printed.
 */
import { parentPort } from 'node:worker_threads'
import { controlCommands } from '../control/commands.js'
import { DataPlane } from '../control/data-plane.js'
import { CONTROL_EVENTS } from '../control/events.js'
import type { Question, ToControl } from '../control/messages.js'
import { qmpVersion, QmpMonitor } from '../qmp/monitor.js'
import { formatAddress } from '../qmp/transport.js'
import { assert } from '../util/assert.js'
import { messageOf } from '../util/errors.js'
import type { Log, LogLevel } from '../util/log.js'
import { ControlSocket } from './control-socket.js'
import type { ControlAddress } from './options.js'
import { packageVersion } from './package-version.js'

/** To the control thread. */
export type ControlOrder =
  ToControl | { readonly kind: 'listen'; readonly addresses: readonly ControlAddress[] } | { readonly kind: 'close' }

/** From the control thread. */
export type ControlReport =
  | Question
  | { readonly kind: 'booted' | 'listening' }
  /** A sentence for people: why the socket cannot be had. */
  | { readonly kind: 'refused'; readonly message: string }
  | { readonly kind: 'log'; readonly level: LogLevel; readonly message: string }

const port = parentPort
assert(port !== null, 'control-main.ts runs in a thread of its own')

const report = (message: ControlReport): void => {
  port.postMessage(message)
}
const logAt =
  (level: LogLevel) =>
  (message: string): void => {
    report({ kind: 'log', level, message })
  }
const log: Log = { debug: logAt('debug'), info: logAt('info'), warn: logAt('warn'), error: logAt('error') }

const dataPlane = new DataPlane(report, (event, data) => {
  monitor.emit(event, data)
})
const monitor = new QmpMonitor({
  version: qmpVersion('nbd-remap', packageVersion()),
  commands: controlCommands(dataPlane, log),
  events: CONTROL_EVENTS,
  log,
})
const sockets: ControlSocket[] = []

async function listen(addresses: readonly ControlAddress[]): Promise<void> {
  try {
    for (const address of addresses) {
      const socket = await ControlSocket.listen(address, log)
      sockets.push(socket)
      socket.open(monitor)
      if ('host' in socket.address) log.info(`control socket on ${formatAddress(socket.address)}`)
    }
    report({ kind: 'listening' })
  } catch (error) {
    report({ kind: 'refused', message: messageOf(error) })
  }
}

async function close(): Promise<void> {
  for (const socket of sockets) socket.close()
  dataPlane.log.release()
  await monitor.close()
  port?.close()
}

port.on('message', (order: ControlOrder) => {
  if (order.kind === 'listen') void listen(order.addresses)
  else if (order.kind === 'close') void close()
  else dataPlane.receive(order)
})
report({ kind: 'booted' })
