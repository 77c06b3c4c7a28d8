/** The guard between a QEMU and a server that tell their events in every order. With real ones: test/vm/guard.test.ts. */
import { EventEmitter, once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import path from 'node:path'
import { setImmediate } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { Guard, type GuardOptions, type Outcome } from '../../../qemu/guard/guard.js'
import type { Report } from '../../../qemu/guard/report.js'
import { type Command, type JsonObject, QmpMonitor, qmpVersion } from '../../../src/qmp/index.js'
import { socketDirectory } from '../../support/qmp-server.js'

const NBD = 'nbd+unix:///?socket=/nobody'

type Answers = Readonly<Record<string, (args: JsonObject) => unknown>>

function monitorOf(answers: Answers): QmpMonitor {
  const row = ([name, run]: [string, Command['run']]): [string, Command] => [
    name,
    { description: '', arguments: {}, returns: { kind: 'any' }, run },
  ]
  return new QmpMonitor({
    version: qmpVersion('fake', '0.0.0'),
    commands: new Map(Object.entries(answers).map(row)),
    events: { BLOCK_IO_ERROR: { description: '' }, REMAP_ADDED: { description: '' } },
  })
}

interface Failure {
  readonly operation: 'read' | 'write'
  readonly sector: number
  readonly nospace?: boolean
}

/** A machine with one disk, `disk`, the server of that, and the guard. */
class Scene {
  readonly reports: Report[] = []
  readonly deeds: string[] = []
  /** What the server does between reading its log and telling what it has read. */
  beforeLogIsTold: () => Promise<void> = () => Promise.resolve()
  /** As `check-sectors` has it. */
  readableSector: (sector: number) => boolean = () => true
  readonly #happened = new EventEmitter()
  readonly #end = new AbortController()
  #guard: Promise<Outcome> | undefined
  #status = 'running'
  readonly #log: JsonObject[] = []
  readonly #qemu = monitorOf({
    'query-status': () => ({ status: this.#status }),
    'query-block': () => {
      this.#happened.emit('look')
      return [this.#disk()]
    },
    cont: () => {
      this.deeds.push('cont')
      this.#status = 'running'
      return {}
    },
  })
  readonly #server = monitorOf({
    'query-status': () => ({
      ...{ uri: NBD, 'export-name': '', suspended: false, 'started-at': 'today', clients: [{}] },
    }),
    'query-lost': () => ({}),
    'query-log': async ({ since }) => {
      const last = this.#log.length
      const entries = this.#log.slice(Number(since))
      await this.beforeLogIsTold()
      return { entries, last }
    },
    'query-spares': () => ({ 'free-blocks': 10 }),
    'check-sectors': ({ 'main-sector': sector }) => ({ readable: this.readableSector(Number(sector)) }),
  })

  static async start(t: Test): Promise<Scene> {
    const scene = new Scene(await socketDirectory(t))
    await scene.#qemu.listen({ path: scene.#qmp })
    t.teardown(async () => {
      scene.#end.abort()
      await scene.#guard
      await scene.#qemu.close()
      await scene.#server.close()
    })
    return scene
  }

  private constructor(readonly directory: string) {}

  get #qmp(): string {
    return path.join(this.directory, 'qmp')
  }

  get #control(): string {
    return path.join(this.directory, 'control')
  }

  async startServer(): Promise<void> {
    await this.#server.listen({ path: this.#control })
  }

  /** @returns what lets it answer those who have come */
  async startBusyServer(t: Test): Promise<() => void> {
    const sockets: Socket[] = []
    const server = createServer({ allowHalfOpen: true }, (socket) => sockets.push(socket)).listen(this.#control)
    t.teardown(() => server.close())
    await once(server, 'listening')
    return () => {
      for (const socket of sockets) this.#server.accept(socket)
    }
  }

  stopServer(): Promise<void> {
    return this.#server.close(0)
  }

  guard(options: Partial<GuardOptions> = {}): Promise<Outcome> {
    const guard = new Guard({
      ...{ qmp: this.#qmp, control: this.#control },
      ...{ dryRun: false, attemptsMax: 3, replaceNode: undefined, once: false },
      report: (report) => {
        this.reports.push(report)
        this.#happened.emit('report')
      },
      ...options,
    })
    this.#guard = guard.run(this.#end.signal)
    return this.#guard
  }

  /** The report of this kind, as soon as there is one. */
  async says(kind: Report['kind']): Promise<Report> {
    for (;;) {
      const found = this.reports.find((report) => report.kind === kind)
      if (found !== undefined) return found
      await once(this.#happened, 'report')
    }
  }

  /** The guard has asked how the machine is once more. */
  async looks(): Promise<void> {
    await once(this.#happened, 'look')
    await untilRead()
  }

  /** Something happens to the server, so that the guard looks. */
  wakeUp(): void {
    this.#server.emit('REMAP_ADDED')
  }

  /** A request of the machine fails, and pauses it. */
  fail(failure: Failure): void {
    this.failInServer(failure)
    this.failInMachine(failure)
  }

  failInServer({ operation, sector, nospace = false }: Failure): void {
    const error = nospace ? 'ENOSPC' : 'EIO'
    const data = { operation, sector, sectors: 8, error, reply: error }
    const message = `CLIENT_ERROR ${JSON.stringify(data)}`
    this.#log.push({ number: this.#log.length + 1, time: new Date().toISOString(), message, event: 'CLIENT_ERROR' })
  }

  failInMachine({ operation, nospace = false }: Failure): void {
    this.#status = 'io-error'
    const reason = nospace ? 'No space left on device' : 'Input/output error'
    this.#qemu.emit('BLOCK_IO_ERROR', { 'node-name': 'disk', operation, action: 'stop', nospace, reason })
  }

  #disk(): JsonObject {
    const inserted = { 'node-name': 'disk', drv: 'nbd', file: NBD, ro: false, detect_zeroes: 'off' }
    return { device: 'disk', qdev: 'disk', inserted: { ...inserted, image: { 'virtual-size': 1024 } } }
  }
}

/** What was written to a unix socket within one process has been read by then. */
async function untilRead(): Promise<void> {
  await setImmediate()
  await setImmediate()
}

/** Fails requests while the server is telling what its log has had before, once. */
const failDuringLook = (scene: Scene, ...failures: Failure[]): void => {
  scene.beforeLogIsTold = async () => {
    scene.beforeLogIsTold = () => Promise.resolve()
    for (const failure of failures) scene.fail(failure)
    await untilRead()
  }
}

void t.test('an error that comes while the log of the server is read is told with its place', async (t) => {
  const scene = await Scene.start(t)
  await scene.startServer()
  void scene.guard()
  await scene.says('runs')
  failDuringLook(scene, { operation: 'write', sector: 800, nospace: true })
  scene.wakeUp()
  t.match(await scene.says('error'), {
    text: /^write of 8 sectors from 800 failed \(No space left on device\): a bad block found no free spare block/,
    details: { cause: 'no-spare', sector: 800, sectors: 8, pauses: true },
  })
  await scene.says('continued')
})

void t.test('an error that comes while another one is looked at is looked at before the machine goes on', async (t) => {
  const scene = await Scene.start(t)
  scene.readableSector = (sector) => sector !== 1600
  await scene.startServer()
  void scene.guard()
  await scene.says('runs')
  failDuringLook(scene, { operation: 'read', sector: 1600 })
  scene.fail({ operation: 'write', sector: 800 })
  t.match(await scene.says('waiting'), { text: /sector 1600 still cannot be read/ })
  t.same(scene.deeds, [])
  t.match(
    scene.reports.filter(({ kind }) => kind === 'error'),
    [{ details: { sector: 800 } }, { details: { sector: 1600 } }],
  )
})

void t.test('a machine that an error pauses during the only look is not told to run', async (t) => {
  const scene = await Scene.start(t)
  scene.readableSector = () => false
  await scene.startServer()
  failDuringLook(scene, { operation: 'read', sector: 1600 })
  t.equal(await scene.guard({ once: true }), 'stays-paused')
  t.match(await scene.says('error'), { details: { cause: 'unreadable', sector: 1600 } })
})

void t.test('nothing is said of the machine before the server was asked, and an error is told then', async (t) => {
  const scene = await Scene.start(t)
  const answer = await scene.startBusyServer(t)
  const looked = scene.looks()
  void scene.guard()
  await looked
  const again = scene.looks()
  scene.fail({ operation: 'write', sector: 800 })
  await again
  t.strictSame(
    scene.reports.map(({ text }) => text),
    ['QEMU answers'],
  )
  answer()
  t.match(await scene.says('error'), { details: { cause: 'unwritable', sector: 800 } })
  await scene.says('continued')
})

void t.test('an error is told when the server goes away while its log is read', async (t) => {
  const scene = await Scene.start(t)
  await scene.startServer()
  void scene.guard()
  await scene.says('runs')
  scene.beforeLogIsTold = () => {
    void scene.stopServer()
    return Promise.resolve()
  }
  scene.failInMachine({ operation: 'write', sector: 800 })
  t.match(await scene.says('error'), { details: { cause: 'connection', pauses: true } })
  t.match(await scene.says('waiting'), { text: /the server does not answer/ })
  t.equal(scene.reports.filter(({ kind }) => kind === 'error').length, 1)
})
