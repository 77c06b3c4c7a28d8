/** CLIENT_ERROR and `check-sectors`: what clients were told, and what they would be told now. */
import t from 'tap'
import { FaultInjector } from '../../qemu/faults.js'
import { StorageDaemon } from '../../qemu/storage-daemon.js'
import { clientErrors, type ClientErrorData } from '../../src/cli/client-errors.js'
import { QmpClient } from '../../src/qmp/index.js'
import { sector } from '../../src/util/units.js'
import { MANY_PROCESSES_TIMEOUT_MS, newPair, pattern, Serve } from '../support/cli.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

void t.test(
  'an error that a client was told is an event with its request, and the range is readable once it is rewritten',
  async (t) => {
    const pair = newPair(t)
    const daemon = await StorageDaemon.start({ directory: pair.folder, disks: [{ name: 'main', file: pair.main }] })
    t.teardown(() => daemon.close())
    const server = await Serve.start(t, { ...pair, main: daemon.uri('main') })
    const control = await QmpClient.connect(server.controlPath)
    t.teardown(() => control.close())
    using events = control.events('CLIENT_ERROR')
    const client = await server.connect()
    await new FaultInjector(daemon, 'main').set([
      { sector: sector(64), operation: 'write' },
      { sector: sector(1027), operation: 'read' },
    ])
    await client.write(60 * 512, [pattern(16 * 512, 9)])
    await t.rejects(client.read(1024 * 512, Buffer.alloc(8192)), /NBD_EIO/)
    const told = await events.next({ timeoutMs: 10_000 })
    t.match(told.data, { operation: 'read', sector: 1024, sectors: 16, error: 'EIO', reply: 'EIO', untold: 0 })
    const check = (from: number, sectors: number): Promise<unknown> =>
      control.execute('check-sectors', { 'main-sector': from, sectors })
    t.same(await check(1024, 16), { readable: false, 'bad-sector': 1027, error: 'EIO' })
    t.same(await check(60, 16), { readable: true })
    await client.write(1027 * 512, [pattern(512, 3)])
    t.same(await check(1024, 16), { readable: true })
    await t.rejects(check(8192, 1), /leaves the device/)
    t.same(events.drain(), [], 'what was remapped is no error, and neither is a check')
  },
)

void t.test('of very many errors some are told, with the number of the others', (t) => {
  const told: ClientErrorData[] = []
  let nowMs = 0
  const fail = clientErrors(
    (data) => told.push(data),
    () => nowMs,
  )
  const client = { id: 7, address: 'unix', exportName: 'disk', since: new Date(), requestsInFlight: 1 }
  const failure = { operation: 'WRITE_ZEROES', offset: 100, length: 1000, code: 'ENODEV', reply: 'EIO' } as const
  for (let n = 0; n < 1000; n++) fail(client, failure)
  t.match(told[0], { id: 7, operation: 'write-zeroes', sector: 0, sectors: 3, error: 'ENODEV', untold: 0 })
  t.equal(told.length, 200)
  nowMs = 1000
  for (let n = 0; n < 1000; n++) fail(client, failure)
  t.equal(told.length, 220)
  t.equal(told[200]?.untold, 800)
  t.end()
})
