/**
 * `QmpMonitor`: the server role of QMP. One table of commands yields what is executed, checked, and introspected.
 * Any number of sockets may listen, and many clients be connected; every negotiated one gets every event.
 *
 * A handler must not await `close()`, which waits for the handler's own reply; start it and return.
 */

import { once } from 'node:events'
import { chmodSync } from 'node:fs'
import net from 'node:net'
import { isMainThread } from 'node:worker_threads'
import { assert } from '../util/assert.js'
import { silentLog, type Log } from '../util/log.js'
import type { QmpConnection } from './connection.js'
import { QmpReplyError } from './error.js'
import { schemaOf } from './introspection.js'
import { formatError, formatEvent, formatGreeting, timestamp, type JsonObject, type QmpVersion } from './message.js'
import { MonitorClient, type Execute, type MonitorClientLimits } from './monitor-client.js'
import { abbreviate, command, type Command, type CommandTable, type EventTable } from './schema.js'

export interface MonitorLimits extends MonitorClientLimits {
  /** Connections at the same time; further ones are told so and closed. */
  readonly clientsMax: number
}

export const MONITOR_LIMITS: MonitorLimits = {
  messageBytesMax: 1024 * 1024,
  depthMax: 64,
  queuedBytesMax: 1024 * 1024,
  clientsMax: 32,
}

export const CLOSE_GRACE_MS = 1000

export interface MonitorOptions {
  readonly version: QmpVersion
  readonly commands: CommandTable
  /** Every event that `emit` may be called with. */
  readonly events?: EventTable
  readonly limits?: Partial<MonitorLimits>
  readonly log?: Log
}

export type MonitorAddress = { readonly path: string } | { readonly host: string; readonly port: number }

/** `qmpVersion('nbd-remap', '0.1.0')`, in the form that QMP clients expect. */
export function qmpVersion(program: string, version: string): QmpVersion {
  const [major = 0, minor = 0, micro = 0] = version.split(/[.-]/).map(Number)
  return { qemu: { major, minor, micro }, package: `${program} ${version}` }
}

const NOT_NEGOTIATED = "Expecting capabilities negotiation with 'qmp_capabilities'"
const NEGOTIATED_ALREADY = 'Capabilities negotiation is already complete, command ignored'

export class QmpMonitor {
  /** Commands of the table and the monitor's own. */
  readonly commands: ReadonlyMap<string, Command>
  readonly #events: EventTable
  readonly #limits: MonitorLimits
  readonly #log: Log
  readonly #greeting: string
  readonly #servers = new Set<net.Server>()
  readonly #clients = new Set<MonitorClient>()
  #nextClientId = 1
  #closing = false

  constructor({ version, commands, events = {}, limits = {}, log = silentLog }: MonitorOptions) {
    const own = this.#ownCommands(version)
    this.commands = new Map([...own, ...(commands instanceof Map ? commands : Object.entries(commands))])
    this.#events = events
    this.#limits = { ...MONITOR_LIMITS, ...limits }
    this.#log = log
    this.#greeting = formatGreeting({ version, capabilities: [] })
  }

  /** Clients connected now. */
  get clientCount(): number {
    return this.#clients.size
  }

  /**
   * Listens there as well. A unix socket is created with mode 0600 and must not exist: see `claimSocketPath`.
   * @returns the address, with the port that was chosen when `port` is 0
   * @throws Error with `code` EADDRINUSE, EACCES, ... from the system
   */
  async listen(address: MonitorAddress): Promise<MonitorAddress> {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      this.accept(socket, { mayBePage: !('path' in address) })
    })
    const listening = once(server, 'listening')
    if ('path' in address) listenPrivately(server, address.path)
    else server.listen(address.port, address.host)
    await listening
    server.on('error', (error) => {
      this.#log.warn(`control socket: ${error.message}`)
    })
    this.#servers.add(server)
    const bound = server.address()
    return typeof bound === 'object' && bound !== null ? { host: bound.address, port: bound.port } : address
  }

  /**
   * Serves a connection that came by another way. It should be `allowHalfOpen`.
   * @param mayBePage it comes over TCP, where a web page can pretend to be a client: whoever does not begin with JSON is left
   */
  accept(socket: QmpConnection, from: { readonly mayBePage?: boolean } = {}): void {
    if (this.#closing || this.#clients.size >= this.#limits.clientsMax) {
      const reason = this.#closing ? 'shutting down' : `too many clients: ${this.#limits.clientsMax} is the limit`
      this.#log.warn(`control socket: a client was refused: ${reason}`)
      socket.on('error', () => undefined).write(formatError(new QmpReplyError(reason)))
      socket.destroySoon()
      return
    }
    const execute: Execute = (name, args, client) => this.#execute(name, args, client)
    const client = new MonitorClient(this.#nextClientId++, socket, this.#limits, execute, from)
    this.#clients.add(client)
    socket.once('close', () => this.#clients.delete(client))
    // Rejects for a broken invariant only, which nobody should catch.
    void client.serve(this.#greeting)
  }

  /** Sends an event to every negotiated client. Never waits for a slow one. */
  emit(event: string, data: JsonObject = {}): void {
    assert(Object.hasOwn(this.#events, event), `event ${event} is in the monitor's table`)
    if (this.#clients.size === 0) return
    const text = Buffer.from(formatEvent({ event, data, timestamp: timestamp(Date.now()) }))
    for (const client of this.#clients) client.sendEvent(text)
  }

  /** Stops listening, lets running commands answer (for `graceMs`), and hangs up. */
  async close(graceMs = CLOSE_GRACE_MS): Promise<void> {
    this.#closing = true
    for (const server of this.#servers) server.close()
    this.#servers.clear()
    await Promise.all([...this.#clients].map((client) => client.close(graceMs)))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #execute(name: string, args: JsonObject, client: MonitorClient): Promise<unknown> {
    if (!client.negotiated && name !== 'qmp_capabilities') throw new QmpReplyError(NOT_NEGOTIATED, 'CommandNotFound')
    if (client.negotiated && name === 'qmp_capabilities') {
      throw new QmpReplyError(NEGOTIATED_ALREADY, 'CommandNotFound')
    }
    const found = this.commands.get(name)
    if (found === undefined) {
      throw new QmpReplyError(`The command ${abbreviate(name)} has not been found`, 'CommandNotFound')
    }
    try {
      const result = await found.run(args, { clientId: client.id })
      if (name === 'qmp_capabilities') client.negotiated = true
      return result
    } catch (error) {
      this.#log.debug(`control command ${name} failed: ${String(error)}`)
      throw error
    }
  }

  #ownCommands(version: QmpVersion): Map<string, Command> {
    return new Map([
      [
        'qmp_capabilities',
        command({
          description: 'Leave capabilities negotiation mode: the first command of every client.',
          arguments: { enable: { kind: 'array', of: { kind: 'str' }, optional: true } },
          handler: ({ enable = [] }) => {
            const [first] = enable
            if (first !== undefined) throw new QmpReplyError(`Capability '${abbreviate(first)}' is not available`)
          },
        }),
      ],
      [
        'query-version',
        command({
          description: 'The version of this program.',
          returns: { kind: 'any' },
          handler: () => version,
        }),
      ],
      [
        'query-commands',
        command({
          description: 'The names of all commands.',
          returns: { kind: 'array', of: { kind: 'object', members: { name: { kind: 'str' } } } },
          handler: () => [...this.commands.keys()].map((name) => ({ name })),
        }),
      ],
      [
        'query-qmp-schema',
        command({
          description: 'Commands, events and their types, for programs.',
          returns: { kind: 'array', of: { kind: 'any' } },
          handler: () => schemaOf(this.commands, this.#events),
        }),
      ],
    ])
  }
}

/** A socket file takes its mode from the umask when it is made; changing it later leaves a moment open to everybody. */
function listenPrivately(server: net.Server, path: string): void {
  if (!isMainThread) {
    // Worker threads may not set the umask, which belongs to the whole process.
    server.listen(path, () => {
      chmodSync(path, 0o600)
    })
    return
  }
  const umask = process.umask(0o177)
  try {
    server.listen(path)
  } finally {
    process.umask(umask)
  }
}
