/** The client alone, against an agent played by the test; `guest-boot.test.ts` has the real one. */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Guest, GuestCommandError, GuestConnectionError, GuestTimeoutError } from '../../qemu/guest.js'
import { LineSplitter } from '../../qemu/guest-protocol.js'

type Answer = (words: string[], socket: Socket) => void
const BOOT = 'boot-0'
const base64 = (text: string): string => Buffer.from(text).toString('base64')

async function socketPath(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'guest-'))
  t.teardown(() => rm(folder, { recursive: true }))
  return join(folder, 'agent')
}

/** Plays QEMU and an agent: `answer` gets each complete line's words without the dot. */
async function playAgent(t: Test, answer: Answer): Promise<{ path: string; sockets: Socket[] }> {
  const path = await socketPath(t)
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    const lines = new LineSplitter()
    socket.on('error', () => undefined)
    socket.on('data', (chunk: Buffer) => {
      for (const line of lines.push(chunk)) if (line.endsWith(' .')) answer(line.split(' ').slice(0, -1), socket)
    })
  })
  server.listen(path)
  await once(server, 'listening')
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  })
  return { path, sockets }
}

const syncs: Answer = ([type, token], socket) => {
  if (type === 'sync') socket.write(`synced ${token!} ${BOOT} .\n`)
}

void t.test('what an earlier client left behind is skipped', async (t) => {
  const { path } = await playAgent(t, ([type, token, command], socket) => {
    if (type === 'sync')
      socket.write(`AAAA - .\ndone old-1 0 - - .\nsynced other ${BOOT} .\nsynced ${token!} ${BOOT} .\n`)
    if (type === 'run') socket.write(`done old-2 1 - - .\ndone ${token!} 0 ${command!} - .\n`)
  })
  const guest = await Guest.connect(path)
  t.same(await guest.run('echo'), { status: 0, stdout: 'echo', stderr: '' })
  guest.close()
})

void t.test('a sync that was lost while the guest booted is sent again at its hello', async (t) => {
  let count = 0
  const { path } = await playAgent(t, (words, socket) => {
    if (++count === 1) socket.write(`\nhello ${BOOT} .\n`)
    else syncs(words, socket)
  })
  const guest = await Guest.connect(path)
  t.equal(count, 2)
  guest.close()
})

void t.test('replies find their commands in any order', async (t) => {
  const ids: string[] = []
  const { path } = await playAgent(t, (words, socket) => {
    syncs(words, socket)
    if (words[0] !== 'run') return
    ids.push(words[1]!)
    if (ids.length < 3) return
    for (const [n, id] of [...ids.entries()].reverse()) socket.write(`done ${id} ${n} ${base64(`out ${n}`)} - .\n`)
  })
  const guest = await Guest.connect(path)
  const results = await Promise.all(['a', 'b', 'c'].map((command) => guest.run(command)))
  t.same(
    results.map(({ status, stdout }) => [status, stdout]),
    [0, 1, 2].map((n) => [n, `out ${n}`]),
  )
  guest.close()
})

void t.test('check returns the output, and throws what failed with its status and standard error', async (t) => {
  const { path } = await playAgent(t, (words, socket) => {
    syncs(words, socket)
    const [type, id, command] = words
    if (type === 'run')
      socket.write(`done ${id!} ${command === base64('good') ? 0 : 3} ${base64('out')} ${base64('why')} .\n`)
  })
  const guest = await Guest.connect(path)
  t.equal(await guest.check('good'), 'out')
  const error = await guest.check('bad').catch((error: unknown) => error)
  t.type(error, GuestCommandError)
  t.match(error, { command: 'bad', status: 3, stderr: 'why', message: /status 3: bad\nwhy$/ })
  guest.close()
})

void t.test('when QEMU goes away every command fails, now and later', async (t) => {
  const { path, sockets } = await playAgent(t, (words, socket) => {
    syncs(words, socket)
    if (words[0] === 'run') sockets[0]!.destroy()
  })
  const guest = await Guest.connect(path)
  await t.rejects(guest.run('sleep 1000'), GuestConnectionError)
  await t.rejects(guest.run('true'), GuestConnectionError)
})

void t.test('when the guest restarts its commands fail', async (t) => {
  const { path } = await playAgent(t, (words, socket) => {
    syncs(words, socket)
    if (words[0] === 'run') socket.write('done \nhello boot-1 .\n')
  })
  const guest = await Guest.connect(path)
  await t.rejects(guest.run('sleep 1000'), { name: 'GuestConnectionError', message: 'the guest was restarted' })
})

void t.test('a command that takes too long is killed, and others go on', async (t) => {
  const killed: string[] = []
  const { path } = await playAgent(t, (words, socket) => {
    syncs(words, socket)
    const [type, id, command] = words
    if (type === 'kill') killed.push(id!)
    if (type === 'run' && command === base64('quick')) socket.write(`done ${id!} 0 - - .\n`)
  })
  const guest = await Guest.connect(path)
  await t.rejects(guest.run('slow', { timeoutMs: 10 }), GuestTimeoutError)
  t.same(await guest.run('quick'), { status: 0, stdout: '', stderr: '' })
  t.equal(killed.length, 1)
  guest.close()
})

void t.test('closing fails what is in flight', async (t) => {
  const { path } = await playAgent(t, syncs)
  const guest = await Guest.connect(path)
  const running = guest.run('sleep 1000')
  guest.close()
  await t.rejects(running, GuestConnectionError)
})

void t.test('connect gives up in time when nobody listens, and when nobody answers', async (t) => {
  await t.rejects(Guest.connect(await socketPath(t), { timeoutMs: 500 }), {
    name: 'GuestConnectionError',
    message: /within 500 ms.*ENOENT/,
  })
  const { path } = await playAgent(t, () => undefined)
  await t.rejects(Guest.connect(path, { timeoutMs: 500 }), { name: 'GuestConnectionError', message: /within 500 ms/ })
})

void t.test('connect waits for the socket to appear', async (t) => {
  const path = await socketPath(t)
  const connecting = Guest.connect(path)
  const server = createServer((socket) => {
    const lines = new LineSplitter()
    socket.on('data', (chunk: Buffer) => {
      for (const line of lines.push(chunk)) syncs(line.split(' '), socket)
    })
  })
  server.listen(path)
  const guest = await connecting
  t.ok(guest)
  guest.close()
  server.close()
  await once(server, 'close')
})

void t.test('connect can be called off', async (t) => {
  const { path } = await playAgent(t, () => undefined)
  const controller = new AbortController()
  const connecting = Guest.connect(path, { signal: controller.signal })
  controller.abort()
  await t.rejects(connecting, { name: 'GuestConnectionError', message: /called off/ })
})
