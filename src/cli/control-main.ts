/**
 * What runs in the control thread: the monitor with its sockets, and HTTP. It never waits for the thread that serves NBD
 * without a limit (promise P8), and its own start is over before the URI is printed.
 */
import { parentPort } from 'node:worker_threads'
import type { Question, ToControl } from '../control/messages.js'
import { assert } from '../util/assert.js'
import { messageOf } from '../util/errors.js'
import type { Log, LogLevel } from '../util/log.js'
import { ControlPlane, type ControlAccess } from './control-plane.js'

/** To the control thread. */
export type ControlOrder =
  ToControl | { readonly kind: 'listen'; readonly access: ControlAccess } | { readonly kind: 'close' }

/** From the control thread. */
export type ControlReport =
  | Question
  | { readonly kind: 'booted' | 'listening' }
  /** A sentence for people: why a socket cannot be had. */
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
const plane = new ControlPlane(report, log)

async function listen(access: ControlAccess): Promise<void> {
  try {
    await plane.listen(access)
    report({ kind: 'listening' })
  } catch (error) {
    report({ kind: 'refused', message: messageOf(error) })
  }
}

async function close(): Promise<void> {
  await plane.close()
  port?.close()
}

port.on('message', (order: ControlOrder) => {
  if (order.kind === 'listen') void listen(order.access)
  else if (order.kind === 'close') void close()
  else plane.dataPlane.receive(order)
})
report({ kind: 'booted' })
