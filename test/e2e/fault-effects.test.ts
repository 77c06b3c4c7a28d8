/** Faults beneath a running server, as its clients and its operator see them. */
import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import type { FaultRule } from '../../src/faults/vocabulary.js'
import type { NbdClient } from '../../src/nbd/client.js'
import { QmpClient } from '../../src/qmp/client.js'
import { SECTOR_SIZE } from '../../src/util/units.js'
import { newFolder, newMain, newPair, newSpare, pattern, Serve } from '../support/cli.js'

const FAULTY = ['--create', '--fault-injection']
const sector = (value: number): Buffer => Buffer.alloc(SECTOR_SIZE, value)

const inject = (server: Serve, ...rules: FaultRule[]) => server.ask('inject-error', { rules })

async function read(client: NbdClient, offset: number, length = SECTOR_SIZE): Promise<Buffer> {
  const content = Buffer.alloc(length)
  await client.read(offset, content)
  return content
}

void t.test('a main disk that is gone and comes back has lost nothing, and nothing was remapped', async (t) => {
  const server = await Serve.start(t, newPair(t), FAULTY)
  await inject(server, { effect: 'gone' })
  const client = await server.connect()
  await t.rejects(read(client, 0), /EIO/)
  await t.rejects(client.write(0, [sector(9)], {}), /EIO/)
  await server.ask('clear-errors')
  t.same(await read(client, 0), pattern(SECTOR_SIZE))
  t.match(await server.ask('query-remap-table'), { remaps: 0 })
  await client.disconnect()
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test(
  'a request that hangs is answered when the rule is cleared; the control socket answers meanwhile',
  async (t) => {
    const server = await Serve.start(t, newPair(t), FAULTY)
    await inject(server, { id: 'stuck', effect: 'hang', sector: 8 })
    const qmp = await QmpClient.connect(server.controlPath)
    const struck = qmp.events('FAULT_INJECTED')
    const client = await server.connect()
    const hanging = read(client, 8 * SECTOR_SIZE)
    t.match(await struck.next(), { data: { rule: 'stuck', effect: 'hang', operation: 'read' } })
    t.same(await read(client, 0), pattern(SECTOR_SIZE), 'others are served')
    t.match(await qmp.execute('query-faults'), { rules: [{ id: 'stuck', parts: [{ struck: 1 }] }] })
    t.match(await qmp.execute('clear-errors', { ids: ['stuck'] }), { cleared: ['stuck'] })
    t.same(await hanging, pattern(9 * SECTOR_SIZE).subarray(8 * SECTOR_SIZE))
    await qmp.close()
    await client.disconnect()
    t.same(await server.end(), { code: 0, signal: null })
  },
)

void t.test('with --io-timeout a hanging write moves to the spare', async (t) => {
  const server = await Serve.start(t, newPair(t), [...FAULTY, '--io-timeout', '0.2', '--on-timeout', 'remap'])
  await inject(server, { effect: 'hang', sector: 8, count: 8, operations: ['write'] })
  const client = await server.connect()
  const qmp = await QmpClient.connect(server.controlPath)
  const late = qmp.events('IO_TIMEOUT', 'IO_ERROR')
  await client.write(8 * SECTOR_SIZE, [Buffer.alloc(4096, 9)], {})
  t.match(await late.next(), { event: 'IO_TIMEOUT', data: { operation: 'write', fault: 1 } })
  t.match(await late.next(), { event: 'IO_ERROR', data: { error: 'ETIMEDOUT', action: 'remapped', fault: 1 } })
  await qmp.close()
  t.match(await server.ask('query-remaps'), { remaps: [{ 'main-sector': 8, sectors: 8 }] })
  await server.ask('clear-errors')
  await client.disconnect()
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test('a disk that lies about flushes loses what was flushed, when the server is killed', async (t) => {
  const files = newPair(t)
  const server = await Serve.start(t, files, FAULTY)
  await inject(server, { effect: 'lie', sectors: '0-1023' })
  const client = await server.connect()
  await client.write(0, [sector(9)], {})
  await client.write(2048 * SECTOR_SIZE, [sector(9)], {})
  await client.flush()
  t.same(await read(client, 0), sector(9), 'the disk has it, as long as it has power')
  await server.end('SIGKILL')
  const next = await Serve.start(t, files, [])
  t.same(await next.read(0, SECTOR_SIZE), pattern(SECTOR_SIZE), 'the lie')
  t.same(await next.read(2048 * SECTOR_SIZE, SECTOR_SIZE), sector(9), 'an honest place')
  await next.end()
})

void t.test('a power cut of a lying disk alone, and a clean stop, which writes everything', async (t) => {
  const files = newPair(t)
  const server = await Serve.start(t, files, FAULTY)
  await inject(server, { effect: 'lie' })
  const client = await server.connect()
  await client.write(0, [sector(9)], {})
  t.match(await server.ask('power-cut'), {
    disks: [
      { disk: 'spare', 'lost-bytes': 0 },
      { disk: 'main', 'lost-bytes': SECTOR_SIZE },
    ],
  })
  t.same(await read(client, 0), pattern(SECTOR_SIZE))
  await client.write(0, [sector(8)], {})
  await client.disconnect()
  t.same(await server.end(), { code: 0, signal: null })
  const next = await Serve.start(t, files, [])
  t.same(await next.read(0, SECTOR_SIZE), sector(8))
  await next.end()
})

void t.test('a connection to an upstream disk that is cut comes back, and no request fails', async (t) => {
  const folder = newFolder(t)
  const upstream = await Serve.start(t, { folder, main: newMain(folder), spare: newSpare(folder) }, ['--create'], 'up')
  const files = { folder, main: upstream.uri, spare: newSpare(folder, 'other.img') }
  const server = await Serve.start(t, files, [...FAULTY, '--accept-main'])
  const client = await server.connect()
  await inject(server, { effect: 'drop-connection', operations: ['write'] })
  await client.write(0, [sector(9)], {})
  await server.until(() => server.stderr.includes('cut on order; reconnecting'), 'it was cut')
  await client.flush()
  t.same(await read(client, 0), sector(9))
  t.match(await server.ask('query-faults'), { rules: [{ state: 'spent', parts: [{ struck: 1 }] }] })
  await client.disconnect()
  t.same(await server.end(), { code: 0, signal: null })
  await upstream.end()
})

void t.test('the connections of all clients are cut, and new ones are welcome', async (t) => {
  const server = await Serve.start(t, newPair(t), FAULTY)
  const [client, other] = [await server.connect(), await server.connect()]
  await inject(server, { effect: 'drop-connection', connection: 'clients' })
  await t.rejects(read(client, 0))
  await other.lost
  t.same(await server.read(0, SECTOR_SIZE), pattern(SECTOR_SIZE))
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test('a client that asks for words is told the number of the fault', async (t) => {
  const server = await Serve.start(t, newPair(t), FAULTY)
  await inject(server, { sector: 8, effect: 'error', errno: 'ENODEV' })
  const script = `
import nbd, sys
h = nbd.NBD()
h.set_debug(True)
h.set_debug_callback(lambda _, text: sys.stdout.write(text + "\\n") and 0)
h.connect_uri(sys.argv[1])
try:
    h.pread(512, 4096)
except nbd.Error as error:
    print(error.errno)`
  // Debian's own python3 has libnbd's module; another one on the PATH may not.
  const { stdout } = await promisify(execFile)('/usr/bin/python3', ['-c', script, server.uri])
  t.match(stdout, /\(injected, fault 1\)/)
  t.match(stdout, /^EIO$/m)
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test(
  'faults of the metadata alone: a copy that cannot be written is given up, and the data is safe',
  async (t) => {
    const files = newPair(t)
    const server = await Serve.start(t, files, FAULTY)
    await inject(
      server,
      { sector: 8, count: 8, operations: ['write'] },
      { disk: 'spare-metadata', sector: 1024, count: 8 },
    )
    const client = await server.connect()
    await client.write(8 * SECTOR_SIZE, [Buffer.alloc(4096, 9)], {})
    await client.disconnect()
    t.match(await server.ask('query-fault-log', { disk: 'main' }), { entries: [{ rule: 'fault-1' }] })
    t.same(await server.end(), { code: 0, signal: null })
    const next = await Serve.start(t, files, [])
    t.same(await next.read(8 * SECTOR_SIZE, 4096), Buffer.alloc(4096, 9))
    await next.end()
  },
)

void t.test('faults of the replica, and of a spare that is added later', async (t) => {
  const folder = newFolder(t)
  const files = { folder, main: newMain(folder), spare: newSpare(folder) }
  const server = await Serve.start(t, files, [...FAULTY, '--replica', newMain(folder, 'copy.img')])
  const main = { sectors: '8-9', operations: ['read'] } as const
  await inject(
    server,
    main,
    { ...main, disk: 'replica', sectors: '9' },
    { disk: 'spare', sector: 20_000, operations: ['trim'] },
  )
  const client = await server.connect()
  t.same(await read(client, 8 * SECTOR_SIZE), pattern(9 * SECTOR_SIZE).subarray(8 * SECTOR_SIZE), 'from the replica')
  await t.rejects(read(client, 9 * SECTOR_SIZE), /EIO/, 'which fails there, too')
  t.match(await server.ask('query-fault-log', { disk: 'replica' }), { entries: [{ rule: 'fault-2', disk: 'replica' }] })
  t.match(await server.ask('query-faults'), { rules: [{}, {}, { parts: { length: 1 } }] })
  const path = newSpare(folder, 'later.img')
  await server.ask('spare-add', { path })
  t.match(await server.ask('query-faults'), { rules: [{}, {}, { parts: [{}, { name: path, sectors: 1 }] }] })
  await client.disconnect()
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test('a worker that is restarted finds the same bad sectors, whoever has chosen the seed', async (t) => {
  const files = newPair(t)
  const file = join(files.folder, 'faults.json')
  writeFileSync(file, '[{"random-sectors": 5, "operations": ["trim"]}]')
  const server = await Serve.start(t, files, ['--create', '--faults', file, '--supervise'])
  const { pid } = await server.ask<{ pid: number }>('query-status')
  const first = await server.ask<{ seed: string }>('query-faults')
  process.kill(pid, 'SIGKILL')
  const client = await server.connect()
  t.not((await server.ask<{ pid: number }>('query-status')).pid, pid)
  t.same(await server.ask('query-faults'), first)
  await client.disconnect()
  t.same(await server.end(), { code: 0, signal: null })
})
