/** A shared monitor on a unix socket, and clients that say exactly what a test tells them to. */

import { once } from 'node:events'
import net from 'node:net'
import path from 'node:path'
import type { Test } from 'tap'
import { QmpShare, type ShareOptions } from '../../src/qmp/index.js'
import { socketDirectory } from './qmp-server.js'

export interface SharedMonitor {
  readonly share: QmpShare
  readonly path: string
}

export async function sharedMonitor(
  t: Test,
  options: ShareOptions & { readonly mayBePage?: boolean },
): Promise<SharedMonitor> {
  const share = new QmpShare(options)
  const { mayBePage = false } = options
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    share.accept(socket, { mayBePage })
  })
  const socketPath = path.join(await socketDirectory(t), 'shared')
  server.listen(socketPath)
  await once(server, 'listening')
  t.teardown(async () => {
    server.close()
    await share.close()
  })
  return { share, path: socketPath }
}

type Message = Readonly<Record<string, unknown>>

/** Sends text, and reads messages. */
export class RawClient {
  readonly socket: net.Socket
  readonly closed: Promise<unknown>
  readonly messages: Message[] = []
  text = ''
  #changed: () => void = () => undefined

  constructor(t: Test, path: string) {
    this.socket = net.connect({ path, allowHalfOpen: true })
    this.closed = new Promise((resolve) => this.socket.once('close', resolve))
    let rest = ''
    this.socket.setEncoding('utf8').on('data', (chunk: string) => {
      this.text += chunk
      const lines = (rest + chunk).split('\r\n')
      rest = lines.pop() ?? ''
      this.messages.push(...lines.map((line) => JSON.parse(line) as Message))
      this.#changed()
    })
    this.socket.on('error', () => undefined).on('end', () => this.socket.end())
    this.socket.on('close', () => {
      this.#changed()
    })
    t.teardown(() => this.socket.destroy())
  }

  /** One that has negotiated. */
  static async negotiated(t: Test, path: string, enable: readonly string[] = []): Promise<RawClient> {
    const client = new RawClient(t, path)
    client.send({ execute: 'qmp_capabilities', arguments: { enable } })
    await client.next()
    await client.next()
    return client
  }

  send(...messages: unknown[]): void {
    this.socket.write(
      messages.map((message) => (typeof message === 'string' ? message : JSON.stringify(message))).join(''),
    )
  }

  /** The oldest message that was not taken yet. @throws when the connection ends before there is one */
  async next(): Promise<Message> {
    for (;;) {
      const message = this.messages.shift()
      if (message !== undefined) return message
      if (this.socket.destroyed) throw new Error('the connection has ended')
      await new Promise<void>((resolve) => {
        this.#changed = resolve
      })
    }
  }
}
