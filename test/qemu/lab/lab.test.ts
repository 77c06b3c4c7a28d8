/** The lab without a virtual machine: servers, disks, faults, events and checks, and nothing left at its end. */
import { existsSync } from 'node:fs'
import t from 'tap'
import { ExpectationError, lab, LabError } from '../../../qemu/index.js'
import { processesIn } from '../../../qemu/scenario/run.js'
import { NbdClient } from '../../../src/nbd/client.js'

// Each starts programs of its own, on a machine that may be busy.
t.setTimeout(240_000)

const stageOf = {
  disks: { main: { size: '32M', via: 'storage-daemon' }, spare: { size: '24M' } },
  server: { main: 'main', spares: ['spare'] },
  machines: {},
} as const

void t.test(
  'bad blocks of a disk are remapped, seen by events, queries and the program, and checked at the end',
  async (t) => {
    await using stage = await lab({ ...stageOf, seed: 1 })
    await stage.fault({ on: 'main', clusters: 64, operations: ['write'], within: '0-8191' })
    await stage.fio({ on: 'server', options: { rw: 'write', bs: '64k', size: '4M', verify: 'crc32c' } })
    const event = await stage.waitForEvent('REMAP_ADDED')
    t.match(event, { from: 'server', data: { reason: 'write-error' } })
    await stage.assert({ qmp: { execute: 'query-remap-table', expect: { remaps: 64 } } })
    await t.rejects(
      stage.assert({ qmp: { execute: 'query-remap-table', expect: { remaps: { atLeast: 65 } } } }),
      new ExpectationError('query-remap-table to server: remaps should be at least 65, and is 64'),
    )
    const { stdout } = await stage.cli({ run: ['status', '--control', '{{server.control}}', '--json'] })
    t.match(JSON.parse(stdout), { status: 'running' })
    await stage.clear('main')
    const checks = await stage.checks()
    t.same(
      checks.map(({ id, ok }) => [id, ok]),
      [['verify', true]],
    )
  },
)

void t.test('a worker that is killed is followed by another one; a hung one goes on', async (t) => {
  await using stage = await lab(stageOf)
  const before = await stage.server.workerPid()
  await stage.kill({ what: 'server', part: 'worker' })
  await stage.until({ qmp: { execute: 'query-status', expect: { pid: { not: before } } }, within: '60s' })
  await stage.stop('server')
  await t.rejects(
    stage.until({ qmp: { execute: 'query-status', within: '200ms' }, within: '300ms' }),
    /not so within 300 ms/,
  )
  await stage.cont('server')
  await stage.until({ qmp: { execute: 'query-status' } })
  await stage.kill('server')
  t.notOk(stage.server.running)
  await t.rejects(stage.kill('server'), new LabError("the server 'server' does not run"))
  await stage.start('server')
  await stage.quit('server')
  await stage.check()
})

void t.test(
  'a server is killed while it is written to, also on a plain file; that nobody writes is told',
  async (t) => {
    await using stage = await lab({ ...stageOf, disks: { main: { size: '32M' }, spare: { size: '24M' } } })
    await t.rejects(
      stage.kill({ what: 'server', part: 'worker', whileWriting: true, within: '200ms' }),
      new LabError("nobody has written to the server 'server' within 200 ms"),
    )
    const before = await stage.server.workerPid()
    const client = await NbdClient.connect(stage.server.uri)
    const lost = t.rejects(async () => {
      for (;;) await client.write(0, [Buffer.alloc(4096, 1)])
    }, 'the server dies under it')
    await stage.kill({ what: 'server', part: 'worker', whileWriting: true })
    await lost
    t.match(stage.timeline.marks.at(-1), { text: 'server: SIGKILL, amid writes' })
    await stage.until({ qmp: { execute: 'query-status', expect: { pid: { not: before } } }, within: '60s' })
  },
)

void t.test('connections are cut, to the upstream and to the clients, and come back', async (t) => {
  await using stage = await lab({
    ...stageOf,
    server: { ...stageOf.server, options: { 'fault-injection': true } },
  })
  const client = await NbdClient.connect(stage.server.uri)
  await stage.fault({ on: 'server', effect: 'drop-connection' })
  await client.write(0, [Buffer.alloc(4096, 1)])
  await client.write(4096, [Buffer.alloc(4096, 2)])
  t.match(stage.server.log(), /NBD server at \S+: cut on order; reconnecting/, 'that to the upstream')

  await stage.fault({ on: 'server', effect: 'drop-connection', connection: 'clients' })
  await t.rejects(client.write(0, [Buffer.alloc(4096, 3)]), 'that to the client')
  const next = await NbdClient.connect(stage.server.uri)
  const found = Buffer.alloc(4096)
  await next.read(4096, found)
  t.same(found, Buffer.alloc(4096, 2))
  await next.disconnect()
})

void t.test('a server that hangs is not waited for at the end', async (t) => {
  await using stage = await lab(stageOf)
  await stage.stop('server')
  const [check] = await stage.checks()
  t.match(check, { ok: false, detail: "the server 'server' was stopped by a step, and no step has let it go on" })
})

void t.test('a fault that is put while the storage daemon is dead holds from its next start on', async (t) => {
  await using stage = await lab({ ...stageOf, seed: 1 })
  await stage.kill('main')
  await stage.fault({ on: 'main', sectors: '2048', operations: ['write'] })
  await stage.start('main')
  await stage.fio({ on: 'server', options: { rw: 'write', bs: '64k', size: '4M' } })
  t.match(await stage.server.execute('query-remap-table'), { remaps: 1 })
})

void t.test('damaged metadata is found by the check of the end', async (t) => {
  await using stage = await lab(stageOf)
  await stage.quit('server')
  await stage.damage({ disk: 'spare', sectors: ['0-7', '1024-1031'] })
  await t.rejects(stage.check(), /not so: nbd-remap verify finds the metadata whole: spare: .*header copy/s)
})

void t.test('what is drawn depends on the seed alone', async (t) => {
  const drawn = async (seed: number): Promise<unknown> => {
    await using stage = await lab({ disks: { main: stageOf.disks.main }, machines: {}, seed })
    // Side by side: in which order they come to it must not matter.
    await Promise.all([
      stage.fault({ on: 'main', clusters: 5 }, 'a'),
      stage.fault({ on: 'main', 'random-sectors': 5, operations: ['read'] }, 'b'),
    ])
    const { rules } = stage.disk('main')
    return rules.map(({ sector, operation }) => `${sector ?? ''} ${operation}`).sort()
  }
  t.same(await drawn(1), await drawn(1))
  t.not(JSON.stringify(await drawn(1)), JSON.stringify(await drawn(2)))
})

void t.test('nothing is left: at the end, when it is called off, and when something cannot be started', async (t) => {
  const stage = await lab(stageOf)
  t.ok(processesIn(stage.directory).length >= 3)
  await stage.close()
  t.same(processesIn(stage.directory), [])
  t.notOk(existsSync(stage.directory))

  const controller = new AbortController()
  const calledOff = await lab({ ...stageOf, signal: controller.signal })
  const waiting = calledOff.until({ qmp: { execute: 'query-status', expect: { pid: 0 } } })
  controller.abort(new Error('called off'))
  await t.rejects(waiting, /called off|aborted/)
  await calledOff.close()
  t.same(processesIn(calledOff.directory), [])
  t.notOk(existsSync(calledOff.directory))

  let directory = ''
  const wrong = { ...stageOf, server: { ...stageOf.server, options: { bogus: 1 } } }
  const failed = await t.rejects(lab(wrong), {
    name: 'LaunchError',
    message: /--bogus 1\nlog: .*unknown option '--bogus'/s,
  })
  ;[directory = ''] = /\/\S*nbd-remap-lab-\w+/.exec((failed as { message?: string } | undefined)?.message ?? '') ?? []
  t.notOk(directory !== '' && existsSync(directory))
})

void t.test('options that are wrong are told by their place', async (t) => {
  await t.rejects(lab({ disks: {} }), /lab\.disks: there must be a disk/)
  await t.rejects(lab({ ...stageOf, disks: { main: { size: '32MB' } } }), /lab\.disks\.main\.size: must be a size/)
  await t.rejects(lab({ ...stageOf, server: { main: 'mian', spares: ['spare'] } }), /lab\.server\.main names 'mian'/)
  await using stage = await lab({ disks: { main: { size: '1M' } }, machines: {} })
  await t.rejects(stage.fault({ on: 'main', sectos: 5 } as never), /fault\.sectos: /)
  await t.rejects(stage.fault({ on: 'main', sector: 5 }), /no server, machine or storage daemon 'main'/)
  t.throws(() => stage.guest, /say which machine: there are none/)
  t.throws(() => stage.fill('{{x.y}}'), /'\{\{x\.y\}\}' stands for nothing/)
})
