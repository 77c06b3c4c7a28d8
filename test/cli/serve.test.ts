/** `serve` from its first line to its clean stop, and after a SIGKILL. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { NbdConnectionError } from '../../src/nbd/client-errors.js'
import { NbdClient } from '../../src/nbd/client.js'
import { QmpClient } from '../../src/qmp/client.js'
import {
  cli,
  digest,
  MANY_PROCESSES_TIMEOUT_MS,
  newPair,
  pattern,
  PROGRAM,
  Serve,
  type Exit,
  type PairFiles,
} from '../support/cli.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

const ROUNDS = 6
const BLOCK = 4096
const BLOCKS = 64

/** What verify says of a spare, as a program reads it. */
async function verify(t: Test, spare: string): Promise<{ code: number | null; clean: boolean; problems: string[] }> {
  const { code, stdout, stderr } = await cli(t, 'verify', '--spare', spare, '--json')
  if (stdout === '') throw new Error(stderr)
  return { code, ...(JSON.parse(stdout) as { clean: boolean; problems: string[] }) }
}

/** Writes blocks, several at a time, until the server goes away. What was acknowledged last is kept for each block. */
class Writer {
  readonly acknowledged = new Map<number, Buffer>()
  /** Blocks with a write that was not answered: they hold the old or the new. */
  readonly inFlight = new Map<number, Buffer>()
  rounds = 0
  #goal = Infinity
  #reached: () => void = () => undefined

  /** Resolves when that many writes were begun. */
  reaches(rounds: number): Promise<void> {
    this.#goal = rounds
    return new Promise((resolve) => {
      this.#reached = resolve
    })
  }

  async run(client: NbdClient): Promise<void> {
    const lanes = Array.from({ length: 8 }, (_, lane) => this.#lane(client, lane))
    await Promise.all(lanes)
  }

  async #lane(client: NbdClient, lane: number): Promise<void> {
    for (let n = 0; ; n++) {
      const block = lane + 8 * (n % (BLOCKS / 8))
      const content = pattern(BLOCK, ++this.rounds)
      if (this.rounds >= this.#goal) this.#reached()
      this.inFlight.set(block, content)
      try {
        await client.write(block * BLOCK, [content])
      } catch (error) {
        if (!(error instanceof NbdConnectionError)) throw error
        return
      }
      this.inFlight.delete(block)
      this.acknowledged.set(block, content)
    }
  }

  /** Whether `server` has everything that was acknowledged. */
  async check(t: Test, server: Serve): Promise<void> {
    const found = await server.read(0, BLOCKS * BLOCK)
    const wrong = [...this.acknowledged].filter(([block, content]) => {
      const now = found.subarray(block * BLOCK, (block + 1) * BLOCK)
      return !now.equals(content) && !this.inFlight.get(block)?.equals(now)
    })
    t.ok(this.acknowledged.size > 0, `${this.rounds} writes`)
    t.same(
      wrong.map(([block]) => block),
      [],
      'every acknowledged write is there',
    )
  }
}

void t.test('standard output is one line, printed when connections are accepted', async (t) => {
  for (const args of [[], ['--supervise']]) {
    const pair = newPair(t)
    for (let round = 0; round < ROUNDS; round++) {
      const server = await Serve.start(t, pair, ['--create', ...args])
      const client = await NbdClient.connect(server.uri, { connectTimeoutMs: 2000 })
      t.equal(client.size, 4 * 1024 * 1024)
      await client.disconnect()
      t.match(await server.ask('query-status'), { uri: server.uri, status: 'running' })
      t.same(await server.end(), { code: 0, signal: null })
      t.match(server.stdout, /^nbd\+unix:\/\/\/disk\?socket=\S+\n$/)
    }
  }
})

void t.test('the export answers to its name and to the default name', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', '--name', 'two words/ü'])
  t.match(server.uri, /^nbd\+unix:\/\/\/two%20words\/%C3%BC\?socket=/)
  for (const uri of [server.uri, `nbd+unix:///?socket=${server.socketPath}`]) {
    await (await NbdClient.connect(uri)).disconnect()
  }
  await t.rejects(NbdClient.connect(`nbd+unix:///other?socket=${server.socketPath}`), /refused the export 'other'/)
})

void t.test('a signal while it starts ends it cleanly, whenever it comes', async (t) => {
  for (const args of [[], ['--supervise']]) {
    const pair = newPair(t)
    await (await Serve.start(t, pair)).end()
    for (let round = 0; round < ROUNDS; round++) {
      const server = Serve.begin(t, pair, args)
      const lines = round % 4
      const seen = (): boolean => server.stderr.split('\n').length > lines || server.stdout !== ''
      if (lines > 0) await server.until(seen, 'it was stopped')
      const exit = await server.end(round % 2 === 0 ? 'SIGTERM' : 'SIGINT')
      // Before the program has taken over from Node.js, a signal just ends the process.
      const early = lines === 0 && exit.signal !== null && server.stderr === ''
      t.ok(early || exit.code === 0, `round ${round}: ${JSON.stringify(exit)} ${server.stderr}`)
      t.match(await verify(t, pair.spare), { code: 0, clean: true })
    }
  }
})

const STOPS: Record<string, (server: Serve) => Promise<Exit>> = {
  SIGTERM: (server) => server.end('SIGTERM'),
  SIGINT: (server) => server.end('SIGINT'),
  'SIGTERM, several times': (server) => {
    for (let n = 0; n < 5; n++) server.child.kill('SIGTERM')
    return server.end('SIGINT')
  },
  quit: async (server) => {
    t.same(await server.ask('quit'), {})
    return server.exited
  },
}

for (const [how, stop] of Object.entries(STOPS)) {
  for (const args of [[], ['--supervise']]) {
    void t.test(`a stop amid writes loses nothing: ${[how, ...args].join(' ')}`, async (t) => {
      const pair = newPair(t)
      const server = await Serve.start(t, pair, ['--create', ...args])
      await server.ask('remap-add', { 'main-sector': 8, sectors: 80 })
      const client = await server.connect()
      const writer = new Writer()
      const writing = writer.run(client)
      await writer.reaches(500)
      t.same(await stop(server), { code: 0, signal: null }, server.stderr)
      await writing
      t.equal(server.stdout.split('\n').length, 2, 'one line')
      t.match(await verify(t, pair.spare), { code: 0, clean: true, problems: [] })
      const next = await Serve.start(t, pair, [])
      await writer.check(t, next)
      t.same(await next.end(), { code: 0, signal: null })
    })
  }
}

void t.test('after SIGKILL everything acknowledged is there, and the next owner is another', async (t) => {
  const pair = newPair(t)
  const epochs: number[] = []
  const writer = new Writer()
  for (let round = 0; round < ROUNDS; round++) {
    const server = await Serve.start(t, pair)
    if (round > 0) await writer.check(t, server)
    if (round < 3) await server.ask('remap-add', { 'main-sector': 16 * (round + 1), sectors: 8 })
    writer.inFlight.clear()
    const client = await server.connect()
    const writing = writer.run(client)
    await writer.reaches(writer.rounds + 200)
    t.same(await server.end('SIGKILL'), { code: null, signal: 'SIGKILL' })
    await writing
    const report = await verify(t, pair.spare)
    t.equal(report.clean, false)
    epochs.push(await ownerEpoch(pair))
  }
  t.same(
    epochs,
    epochs.map((_, n) => (epochs[0] ?? 0) + n),
    'the owner epoch counts the starts',
  )
  const last = await Serve.start(t, pair, [])
  await writer.check(t, last)
  t.match(await last.ask('query-remaps'), { total: 3 })
  t.same(await last.end(), { code: 0, signal: null })
  t.match(await verify(t, pair.spare), { code: 0, clean: true, problems: [] })
})

async function ownerEpoch({ spare }: PairFiles): Promise<number> {
  const { openDisk } = await import('../../src/device/open.js')
  const { readHeader } = await import('../../src/spare/header.js')
  const { silentLog } = await import('../../src/util/log.js')
  const disk = await openDisk(spare, { readOnly: true, log: silentLog })
  const choice = await readHeader(disk.device)
  await disk.device.close()
  if (choice.kind !== 'chosen') throw new Error(choice.kind)
  return choice.header.ownerEpoch
}

void t.test('quit answers before the server is gone', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const client = await QmpClient.connect(server.controlPath)
  t.same(await client.execute('quit'), {})
  t.same(await server.exited, { code: 0, signal: null })
  await client.close()
})

void t.test('a read-only server leaves both disks as they are, even when it is killed', async (t) => {
  const pair = newPair(t)
  await (await Serve.start(t, pair)).end()
  const before = [digest(pair.main), digest(pair.spare)]
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const server = await Serve.start(t, pair, ['--read-only'])
    const client = await server.connect()
    t.ok(client.flags.readOnly)
    await t.rejects(client.write(0, [pattern(512, 5)]), /EPERM/)
    await server.end(signal)
    await client.disconnect()
    t.same([digest(pair.main), digest(pair.spare)], before)
  }
})

void t.test('a server whose standard error and output nobody reads goes on', async (t) => {
  const pair = newPair(t)
  await (await Serve.start(t, pair)).end()
  const sockets = ['--socket', `${pair.folder}/a.sock`, '--control', `${pair.folder}/a.qmp`]
  const command = [PROGRAM, 'serve', '--main', pair.main, '--spare', pair.spare, ...sockets, '--verbose']
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', process.execPath, ...command], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  child.stdout.destroy()
  child.stderr.destroy()
  for (let round = 0; round < 5; round++) await (await NbdClient.connect(line.toString().trim())).disconnect()
  child.kill('SIGTERM')
  t.same(await once(child, 'exit'), [0, null])
  t.match(await verify(t, pair.spare), { code: 0, clean: true })
})
