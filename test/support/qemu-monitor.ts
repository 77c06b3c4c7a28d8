/** Monitors of real programs without a guest: they dial us, so that there is no moment to wait for. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import path from 'node:path'
import type { Test } from 'tap'
import { QmpClient } from '../../src/qmp/index.js'
import { socketDirectory } from './qmp-server.js'

/** Starts `program`, which dials the socket that its arguments name, and returns that connection. */
export async function dialledBy(t: Test, program: string, args: (socket: string) => string[]): Promise<net.Socket> {
  const socket = path.join(await socketDirectory(t), 'q')
  const server = net.createServer().listen(socket)
  t.teardown(() => server.close())
  await once(server, 'listening')
  const child = spawn(program, args(socket), { stdio: 'inherit' })
  const exited = once(child, 'exit')
  t.teardown(async () => {
    child.kill()
    await exited
  })
  const [connection] = (await once(server, 'connection')) as [net.Socket]
  return connection
}

/** QEMU without a machine. @param more arguments, separated by spaces */
export async function qemuMonitor(t: Test, more = ''): Promise<QmpClient> {
  const socket = await dialledBy(t, 'qemu-system-x86_64', (socket) =>
    `-M none -S -nodefaults -display none -qmp unix:${socket} ${more}`.trim().split(' '),
  )
  return QmpClient.attach(socket, 'QEMU', { oob: true })
}

export async function storageDaemonMonitor(t: Test, ...more: string[]): Promise<QmpClient> {
  const socket = await dialledBy(t, 'qemu-storage-daemon', (socket) => [
    '--chardev',
    `socket,id=q,path=${socket}`,
    '--monitor',
    'chardev=q',
    ...more,
  ])
  return QmpClient.attach(socket, 'storage daemon')
}
