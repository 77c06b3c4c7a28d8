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
import { assert } from '../util/assert.js'
import { messageOf } from '../util/errors.js'
import type { Log, LogLevel } from '../util/log.js'
import { ControlSocket } from './control-socket.js'
import { packageVersion } from './package-version.js'

/** To the control thread. */
export type ControlOrder = ToControl | { readonly kind: 'listen'; readonly path: string } | { readonly kind: 'close' }

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
  commands: controlCommands(dataPlane),
  events: CONTROL_EVENTS,
  log,
})
let socket: ControlSocket | undefined

async function listen(path: string): Promise<void> {
  try {
    socket = await ControlSocket.listen(path, log)
    socket.open(monitor)
    report({ kind: 'listening' })
  } catch (error) {
    report({ kind: 'refused', message: messageOf(error) })
  }
}

async function close(): Promise<void> {
  socket?.close()
  await monitor.close()
  port?.close()
}

port.on('message', (order: ControlOrder) => {
  if (order.kind === 'listen') void listen(order.path)
  else if (order.kind === 'close') void close()
  else dataPlane.receive(order)
})
report({ kind: 'booted' })
