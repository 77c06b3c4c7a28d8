/** A QMP server that says exactly what a test tells it to, on a unix socket of its own. */

import { mkdtemp, rm } from 'node:fs/promises'
import { once } from 'node:events'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import type { Test } from 'tap'

export const GREETING =
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}\r\n'

/** A directory whose path is short enough for unix sockets. */
export async function socketDirectory(t: Test): Promise<string> {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'qmp-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  return directory
}

export interface ScriptedServer {
  readonly path: string
  /** Everything that all clients have sent, parsed. */
  readonly received: { execute?: string; 'exec-oob'?: string; arguments?: unknown; id?: number }[]
}

/** `onConnect` usually writes a greeting; `onCommand` gets each line that a client sends. */
export async function scriptedServer(
  t: Test,
  onConnect: (socket: net.Socket) => void,
  onCommand: (socket: net.Socket, command: { execute?: string; id?: number }) => void = () => undefined,
): Promise<ScriptedServer> {
  const received: ScriptedServer['received'] = []
  const sockets = new Set<net.Socket>()
  const server = net.createServer((socket) => {
    sockets.add(socket)
    let text = ''
    socket.on('error', () => undefined)
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (text + chunk).split('\r\n')
      text = lines.pop() ?? ''
      for (const line of lines) {
        const command = JSON.parse(line) as ScriptedServer['received'][number]
        received.push(command)
        onCommand(socket, command)
      }
    })
    onConnect(socket)
  })
  const socketPath = path.join(await socketDirectory(t), 's')
  server.listen(socketPath)
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { path: socketPath, received }
}

/** Answers qmp_capabilities, and hands on every other command. */
export const negotiating =
  (onCommand: (socket: net.Socket, command: { execute?: string; id?: number }) => void) =>
  (socket: net.Socket, command: { execute?: string; id?: number }): void => {
    if (command.execute === 'qmp_capabilities') socket.write(`{"return": {}, "id": ${String(command.id)}}\r\n`)
    else onCommand(socket, command)
  }
