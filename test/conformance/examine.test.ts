import net from 'node:net'
import t, { type Test } from 'tap'
import type { Target } from '../../src/conformance/examination.js'
import { CHECKS, examine, type Report } from '../../src/conformance/examine.js'
import { LEVELS, tally } from '../../src/conformance/finding.js'
import * as nbd from '../../src/nbd/protocol.js'
import { MiB } from '../../src/util/units.js'
import { MemoryDevice } from '../support/memory-device.js'
import { serve, temporaryDirectory } from '../support/nbd-server.js'
import { BLOCK, LOST_BLOCK, servePair } from '../support/served-pair.js'

const target = (path: string, more: Partial<Target> = {}): Target => ({
  address: { transport: 'unix', path },
  exportName: '',
  patienceMs: 10_000,
  mayWrite: true,
  ...more,
})

const failures = ({ findings }: Report): string[] =>
  findings
    .filter(({ result }) => result === 'fail')
    .map(({ check, level, demand, detail = '' }) => `${check}: ${level} ${demand}; but: ${detail}`)
const skips = ({ findings }: Report): string[] =>
  findings.filter(({ result }) => result === 'skip').map(({ check }) => check)

async function listen(t: Test, onClient: (socket: net.Socket, server: net.Server) => void): Promise<string> {
  const path = `${await temporaryDirectory(t)}/s`
  const sockets = new Set<net.Socket>()
  const server = net.createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    onClient(socket, server)
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return path
}

void t.test('this server meets every demand, and nothing is left out', async (t) => {
  const { path } = await serve(t, {}, 64 * MiB)
  const seen: string[] = []
  const report = await examine(target(path), { onCheck: ({ name }) => void seen.push(name) })
  t.same(failures(report), [])
  t.same(skips(report), ['read-only'], 'only what is about read-only exports')
  t.same(
    seen,
    CHECKS.map(({ name }) => name),
  )
  for (const level of LEVELS) t.ok(tally(report.findings, level).pass > 30, level)
  t.equal(report.facts.size, 64 * MiB)
  t.equal(report.fell, undefined)
})

void t.test('so does its read-only export, and a remapper with remapped blocks', async (t) => {
  const device = new MemoryDevice(MiB)
  const exports = [{ name: 'main', description: '', device, readOnly: true }]
  const { path } = await serve(t, { exports })
  const report = await examine(target(path))
  t.same(failures(report), [])
  t.notOk(skips(report).includes('read-only'))
  const pair = await servePair(t, 4 * MiB)
  const healer = await (await pair.connect()).go({ name: 'disk' })
  await healer.ask(nbd.NBD_CMD_WRITE, { offset: LOST_BLOCK * BLOCK, length: BLOCK }, Buffer.alloc(BLOCK))
  const remapped = await examine(target(pair.path, { exportName: 'disk' }))
  t.same(failures(remapped), [])
})

void t.test('without leave nothing is written', async (t) => {
  const { path, device } = await serve(t, {}, MiB)
  device.data.fill('untouched')
  const before = Buffer.from(device.data)
  const report = await examine(target(path, { mayWrite: false }))
  t.same(failures(report), [])
  t.ok(skips(report).includes('write'))
  t.ok(device.data.equals(before))
})

void t.test('a server that reads something else is found out', async (t) => {
  const { path, device } = await serve(t, {}, MiB)
  device.before = ({ operation }) => {
    if (operation === 'read') device.data.fill(0)
  }
  const found = failures(await examine(target(path)))
  t.ok(found.some((text) => text.startsWith('write: MUST read what was written')))
})

void t.test('a server that is silent is told as such', async (t) => {
  const path = await listen(t, (socket) => socket.write(nbd.encodeGreeting(3)))
  await t.rejects(examine(target(path, { patienceMs: 100 })), { message: 'no answer within 0.1 s' })
})

void t.test('a server that falls over is the last finding', async (t) => {
  const { path: real } = await serve(t, {}, MiB)
  let clients = 0
  const path = await listen(t, (socket, server) => {
    if (++clients > 12) {
      server.close()
      socket.destroy()
      return
    }
    const upstream = net.connect(real)
    upstream.on('error', () => socket.destroy())
    socket.pipe(upstream).pipe(socket)
    socket.on('close', () => upstream.destroy())
  })
  const report = await examine(target(path))
  t.match(failures(report).at(-1), /^\S+: MUST go on listening whatever clients do; but: /)
  t.equal(report.fell, report.findings.at(-1)?.check)
})

void t.test('garbage instead of a greeting is no server', async (t) => {
  const path = await listen(t, (socket) => socket.end(Buffer.alloc(nbd.GREETING_LENGTH, 'x')))
  await t.rejects(examine(target(path)), /magic/i)
})
