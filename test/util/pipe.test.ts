/** Bytes between files and sockets through a pipe: what comes out is what went in, and what does not fit is told. */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, fsyncSync, openSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { descriptorOf } from '../../src/server/direct-socket.js'
import { canSplice, Pipe, PIPE_CAPACITY, receiveNow, setSendBuffer } from '../../src/util/pipe.js'
import { KiB } from '../../src/util/units.js'
import { seededRandom } from '../support/random.js'
import { temporaryDirectory } from '../support/nbd-server.js'

function open(t: Test): Pipe {
  const pipe = Pipe.open()
  if (pipe === undefined) throw new Error('no pipe: is the package koffi installed?')
  t.teardown(() => {
    pipe.close()
  })
  return pipe
}

function openFile(t: Test, content: Buffer): { fd: number; path: string } {
  const path = join(t.testdir({}), 'file')
  writeFileSync(path, content)
  const fd = openSync(path, 'r+')
  t.teardown(() => {
    closeSync(fd)
  })
  return { fd, path }
}

async function sockets(t: Test): Promise<[net.Socket, net.Socket]> {
  const path = join(await temporaryDirectory(t), 's')
  const server = net.createServer({ pauseOnConnect: true }).listen(path)
  await once(server, 'listening')
  const client = net.connect(path)
  const [accepted] = (await once(server, 'connection')) as [net.Socket]
  t.teardown(() => {
    client.destroy()
    accepted.destroy()
    server.close()
  })
  return [client, accepted]
}

void t.test('here there are pipes', (t) => {
  t.ok(canSplice())
  t.end()
})

void t.test('any part of a file goes through, and to any place of one', (t) => {
  const random = seededRandom(t)
  const content = random.bytes(700 * KiB)
  const { fd, path } = openFile(t, content)
  const pipe = open(t)
  for (let round = 0; round < 50; round++) {
    const length = random.between(1, 300 * KiB)
    const from = random.below(content.length - length)
    const to = random.below(content.length - length)
    t.equal(pipe.fill(fd, from, length), length)
    t.equal(pipe.length, length)
    // What is in a pipe is the file itself: it has to be out before that is written to.
    const bytes = Buffer.alloc(length)
    t.equal(pipe.pull(bytes), length)
    t.ok(bytes.equals(content.subarray(from, from + length)))
    t.equal(pipe.push(bytes, length), length)
    t.equal(pipe.drain(fd, to, length), length)
    bytes.copy(content, to)
  }
  t.equal(pipe.length, 0)
  fsyncSync(fd)
  t.ok(readFileSync(path).equals(content))
  t.end()
})

void t.test('what is not there does not come, and is no error', (t) => {
  const { fd } = openFile(t, Buffer.alloc(1000, 'x'))
  const pipe = open(t)
  t.equal(pipe.fill(fd, 500, 4 * KiB), 500)
  t.equal(pipe.fill(fd, 1000, 4 * KiB), 0)
  t.equal(pipe.drain(-1, undefined, 500), 0, 'no such file')
  t.equal(pipe.length, 500)
  pipe.clear()
  t.equal(pipe.length, 0)
  t.equal(pipe.pull(Buffer.alloc(10)), 0)
  t.end()
})

void t.test('a full pipe takes no more, and gives all that it has taken', (t) => {
  const pipe = open(t)
  const bytes = seededRandom(t).bytes(2 * PIPE_CAPACITY)
  t.equal(pipe.push(bytes, bytes.length), PIPE_CAPACITY)
  t.equal(pipe.push(bytes, 1), 0)
  const out = Buffer.alloc(bytes.length)
  t.equal(pipe.pull(out), PIPE_CAPACITY)
  t.ok(out.subarray(0, PIPE_CAPACITY).equals(bytes.subarray(0, PIPE_CAPACITY)))
  t.end()
})

void t.test('from a file to a socket, and from a socket to a file', async (t) => {
  const content = seededRandom(t).bytes(64 * KiB)
  const source = openFile(t, content)
  const [client, accepted] = await sockets(t)
  setSendBuffer(descriptorOf(accepted), 512 * KiB)
  const pipe = open(t)
  t.equal(pipe.fill(source.fd, 0, content.length), content.length)
  t.equal(pipe.drain(descriptorOf(accepted), undefined, content.length), content.length)
  const received: Buffer[] = []
  client.on('data', (chunk: Buffer) => received.push(chunk))
  while (Buffer.concat(received).length < content.length) await once(client, 'data')
  t.ok(Buffer.concat(received).equals(content))

  const into = Buffer.alloc(4)
  t.equal(receiveNow(descriptorOf(accepted), into), 0, 'nothing was sent')
  await new Promise((resolve) => client.write(Buffer.concat([Buffer.from('head'), content]), resolve))
  t.equal(receiveNow(descriptorOf(accepted), into), 4)
  t.equal(String(into), 'head')
  while (pipe.length < content.length) {
    pipe.fill(descriptorOf(accepted), undefined, content.length - pipe.length)
    await new Promise((resolve) => setImmediate(resolve))
  }
  t.equal(pipe.drain(source.fd, content.length, content.length), content.length)
  t.ok(readFileSync(source.path).subarray(content.length).equals(content))
})

void t.test('a socket that is closed takes nothing', async (t) => {
  const [client, accepted] = await sockets(t)
  const descriptor = descriptorOf(accepted)
  client.destroy()
  await once(client, 'close')
  const pipe = open(t)
  pipe.push(Buffer.from('lost'), 4)
  t.equal(pipe.drain(descriptor, undefined, 4), 0, 'and the process goes on')
  accepted.destroy()
  t.equal(descriptorOf(accepted), -1)
})

void t.test('a pipe that is closed leaves no descriptor open', (t) => {
  const count = (): number => readdirSync('/proc/self/fd').length
  const before = count()
  const pipes = [Pipe.open(), Pipe.open()]
  t.equal(count(), before + 4)
  for (const pipe of pipes) pipe?.close()
  t.equal(count(), before)
  t.end()
})

void t.test('where koffi cannot be loaded there are no pipes, and nothing fails', (t) => {
  const hook = join(t.testdir({}), 'hook.cjs')
  writeFileSync(
    hook,
    `const Module = require('node:module')
const load = Module._load
Module._load = (name, ...rest) => {
  if (name === 'koffi') throw new Error('no binary for this machine')
  return load(name, ...rest)
}`,
  )
  const module = new URL('../../src/util/pipe.js', import.meta.url).href
  const script = `import { canSplice, Pipe, receiveNow, setSendBuffer } from '${module}'
setSendBuffer(0, 1000)
console.log(canSplice(), Pipe.open(), receiveNow(0, new Uint8Array(1)))`
  const { stdout, stderr } = spawnSync(process.execPath, ['--require', hook, '--input-type=module', '--eval', script], {
    encoding: 'utf8',
  })
  t.equal(stdout, 'false undefined 0\n', stderr)
  t.end()
})
