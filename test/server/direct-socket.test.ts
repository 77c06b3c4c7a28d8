import { once } from 'node:events'
import net from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { readDirectly } from '../../src/server/direct-socket.js'
import { temporaryDirectory } from '../support/nbd-server.js'

async function pair(t: Test): Promise<{ client: net.Socket; accepted: net.Socket; server: net.Server }> {
  const path = join(await temporaryDirectory(t), 's')
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true })
  server.listen(path)
  await once(server, 'listening')
  t.teardown(() => server.close())
  const client = net.connect(path)
  t.teardown(() => client.destroy())
  const [accepted] = (await once(server, 'connection')) as [net.Socket]
  return { client, accepted, server }
}

void t.test('an accepted socket of this Node.js can read into a buffer of ours', async (t) => {
  const { client, accepted, server } = await pair(t)
  const buffer = Buffer.alloc(8)
  const received: string[] = []
  let onRead: () => void = () => undefined
  const socket = readDirectly(accepted, {
    buffer: () => buffer,
    onRead: (length) => {
      received.push(buffer.toString('latin1', 0, length))
      onRead()
    },
  })
  t.ok(socket, 'else the server is slow, but works')
  if (socket === undefined) return
  socket.resume()
  for (const text of ['one', 'and two']) {
    const read = new Promise<void>((resolve) => (onRead = resolve))
    client.write(text)
    await read
  }
  t.same(received, ['one', 'and two'])
  socket.write('reply')
  t.equal(String((await once(client, 'data'))[0]), 'reply')
  client.end()
  await once(socket, 'end')
  socket.destroy()
  await once(client, 'close')
  t.equal(await promisify(server.getConnections.bind(server))(), 0, 'nobody counts it')
})

void t.test('a socket with something left to write stays as it is', async (t) => {
  const { accepted } = await pair(t)
  t.teardown(() => accepted.destroy())
  accepted.cork()
  accepted.write('not sent yet')
  t.equal(readDirectly(accepted, { buffer: () => Buffer.alloc(1), onRead: () => undefined }), undefined)
  t.notOk(accepted.destroyed)
})
