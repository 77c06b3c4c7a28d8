import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { lstat, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import net from 'node:net'
import path from 'node:path'
import t from 'tap'
import { claimSocketPath } from '../../src/util/socket-path.js'
import { socketDirectory } from '../support/qmp-server.js'

void t.test('a path where nothing is can be had', async (t) => {
  await t.resolves(claimSocketPath(path.join(await socketDirectory(t), 's')))
})

void t.test('the socket of a running server is refused and stays usable', async (t) => {
  const socket = path.join(await socketDirectory(t), 's')
  const server = net.createServer((client) => client.end()).listen(socket)
  t.teardown(() => server.close())
  await once(server, 'listening')
  await t.rejects(claimSocketPath(socket), {
    name: 'SocketPathError',
    message: `${socket} is already in use by a running server`,
  })
  await once(net.connect(socket).resume(), 'end')
})

void t.test('the socket of a server that was killed is removed', async (t) => {
  const socket = path.join(await socketDirectory(t), 's')
  const script = `require('net').createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, 'SIGKILL'))`
  await once(spawn(process.execPath, ['-e', script]), 'exit')
  t.ok((await lstat(socket)).isSocket(), 'it was left behind')
  await claimSocketPath(socket)
  await t.rejects(lstat(socket), { code: 'ENOENT' })
})

void t.test('what is not a socket is refused and left untouched', async (t) => {
  const directory = await socketDirectory(t)
  const file = path.join(directory, 'file')
  await writeFile(file, 'precious')
  await symlink('nowhere', path.join(directory, 'link'))
  await mkdir(path.join(directory, 'directory'))
  for (const name of ['file', 'link', 'directory']) {
    await t.rejects(claimSocketPath(path.join(directory, name)), {
      name: 'SocketPathError',
      message: /is not a socket/,
    })
    await t.resolves(lstat(path.join(directory, name)))
  }
  t.equal(await readFile(file, 'utf8'), 'precious')
  await t.rejects(claimSocketPath(path.join(file, 's')), {
    name: 'SocketPathError',
    message: /a part of its path is no folder$/,
  })
})
