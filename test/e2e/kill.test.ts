/**
 * Promise P1 against SIGKILL: the worker, the supervisor, both at once, and the storage daemon with them, at any moment
 * of writing, while more and more of both disks goes bad. KILL_ROUNDS is the number of kills (`npm run soak -- kill`).
 */

import { createHash } from 'node:crypto'
import t, { type Test } from 'tap'
import { FaultInjector } from '../../qemu/faults.js'
import type { RemapServer } from '../../qemu/remap-server.js'
import type { StorageDaemon } from '../../qemu/storage-daemon.js'
import { NbdConnectionError } from '../../src/nbd/client-errors.js'
import { NbdClient } from '../../src/nbd/client.js'
import { HEADER_AREA_SIZE, layOut } from '../../src/spare/format.js'
import { KiB, MiB } from '../../src/util/units.js'
import { assertIntact, Bench, BLOCK_SIZE, countRemaps, DecayingDisk, type Statistics } from '../support/bench.js'
import { GRANULE, GranuleModel, type Range } from '../support/granule-model.js'
import { run, runOk } from '../support/tools.js'
import { seededRandom } from '../support/random.js'

const FIO_ROUNDS = Number(process.env['KILL_ROUNDS'] ?? 4)
const MODEL_ROUNDS = Number(process.env['KILL_ROUNDS'] ?? 8)
const SECONDS_PER_ROUND_MAX = 20

t.setTimeout((60 + SECONDS_PER_ROUND_MAX * (FIO_ROUNDS + MODEL_ROUNDS)) * 1000)
const random = seededRandom(t)

/** Who dies. Each comes equally often, the first ones even in a short run. */
const VICTIMS = ['worker', 'supervisor', 'both', 'everything'] as const
type Victim = (typeof VICTIMS)[number]

/** The server over a storage daemon with both disks, to be killed and started again. */
class Patient {
  readonly #bench: Bench
  readonly #disks: Readonly<Record<'main' | 'spare', DecayingDisk>>
  #daemon: StorageDaemon
  server: RemapServer

  private constructor(bench: Bench, daemon: StorageDaemon, server: RemapServer, mainSize: number, spareSize: number) {
    this.#bench = bench
    this.#daemon = daemon
    this.server = server
    // Data blocks only: a slot page that cannot be written is given up, which `verify` reports for good reason.
    const geometry = layOut(mainSize, spareSize, BLOCK_SIZE)
    if (geometry === undefined) throw new Error(`a spare of ${spareSize} bytes has no data blocks`)
    const first = geometry.dataOffset / BLOCK_SIZE
    const spare = { first, end: first + geometry.slots }
    this.#disks = {
      main: new DecayingDisk(random, new FaultInjector(daemon, 'main'), { first: 0, end: mainSize / BLOCK_SIZE }),
      spare: new DecayingDisk(random, new FaultInjector(daemon, 'spare'), spare),
    }
  }

  static async admit(t: Test, mainSize: number): Promise<Patient> {
    const spareSize = HEADER_AREA_SIZE + mainSize / 2
    const bench = await Bench.open(t, { main: mainSize, spare: spareSize })
    const daemon = await bench.startDaemon('main', 'spare')
    const disks = { main: daemon.uri('main'), spare: daemon.uri('spare') }
    const server = await bench.startServer({ ...disks, args: ['--create'] })
    return new Patient(bench, daemon, server, mainSize, spareSize)
  }

  get bad(): number {
    return this.#disks.main.bad + this.#disks.spare.bad
  }

  /** More blocks go bad. */
  async decay(main: number, spare: number): Promise<void> {
    await this.#disks.main.decay(main)
    await this.#disks.spare.decay(spare)
  }

  /** Kills, and starts again whatever does not come back by itself. */
  async kill(victim: Victim): Promise<void> {
    const control = await this.server.control()
    const workerGone = control.closed
    if (victim === 'worker') process.kill(await this.server.workerPid(), 'SIGKILL')
    else if (victim === 'supervisor') process.kill(this.server.process.pid, 'SIGKILL')
    else await this.server.killAll()
    await workerGone
    if (victim === 'worker') return
    if (victim === 'everything') await this.#restartDaemon()
    this.server = await this.#bench.startServer({ main: this.#daemon.uri('main'), spare: this.#daemon.uri('spare') })
  }

  async #restartDaemon(): Promise<void> {
    await this.#daemon.kill()
    this.#daemon = await this.#bench.startDaemon('main', 'spare')
    for (const name of ['main', 'spare'] as const) await this.#disks[name].moveTo(new FaultInjector(this.#daemon, name))
  }

  /** A clean stop, after which nothing is wrong with the spare. */
  async discharge(t: Test): Promise<void> {
    t.ok((await countRemaps(this.server)) > 0, 'blocks were remapped')
    t.equal((await this.server.ask<Statistics>('query-stats'))['failed-requests'], 0, 'no request failed')
    t.same(await this.server.stop(), { code: 0, signal: null }, 'a clean stop')
    await assertIntact(t, this.#daemon.uri('spare'))
  }
}

// --- fio ---------------------------------------------------------------------------------------------------------------

const REGION = 512 * KiB
/** Where fio writes while the server is killed. */
const SCRATCH = 16 * MiB

const region = (round: number): Range => ({ offset: SCRATCH + round * REGION, length: REGION })

/** The same arguments write and, with `verify_only`, verify. */
function fioJob(round: number): string[] {
  const { offset, length } = region(round)
  return [`--name=region-${round}`, `--offset=${offset}`, `--size=${length}`, `--randseed=${round + 1}`].concat(
    ['--rw=randwrite', '--bsrange=512-64k', '--iodepth=8', '--verify=crc32c', '--do_verify=0', '--end_fsync=1'],
    ['--verify_fatal=1', '--verify_state_save=0'],
  )
}

const fio = (uri: string, ...args: string[]): Promise<string> => runOk('fio', '--ioengine=nbd', `--uri=${uri}`, ...args)

async function digest(client: NbdClient, { offset, length }: Range): Promise<string> {
  const content = Buffer.alloc(length)
  await client.read(offset, content)
  return createHash('sha256').update(content).digest('hex')
}

void t.test(`fio: nothing flushed is lost in ${FIO_ROUNDS} kills`, async (t) => {
  const patient = await Patient.admit(t, SCRATCH + FIO_ROUNDS * REGION)
  // Enough for some of them to be written to, whatever is drawn later.
  await patient.decay(64, 4)
  const flushed: string[] = []
  for (let round = 0; round < FIO_ROUNDS; round++) {
    const victim = VICTIMS[round % VICTIMS.length] ?? 'worker'
    await fio(patient.server.uri, ...fioJob(round))
    flushed.push(await withClient(patient.server, (client) => digest(client, region(round))))
    await killUnderWrites(t, patient, victim)
    const found = await withClient(patient.server, async (client) => {
      const digests: string[] = []
      for (const n of flushed.keys()) digests.push(await digest(client, region(n)))
      return digests
    })
    t.same(found, flushed, `kill ${round + 1}, ${victim}: what was flushed in any round before is there`)
  }
  await fio(patient.server.uri, '--verify_only', ...flushed.flatMap((_, round) => fioJob(round)))
  await patient.discharge(t)
})

async function withClient<T>(server: RemapServer, work: (client: NbdClient) => Promise<T>): Promise<T> {
  const client = await NbdClient.connect(server.uri)
  try {
    return await work(client)
  } finally {
    await client.disconnect()
  }
}

/** Kills when a number of writes drawn at random has been made, and sometimes while blocks go bad. */
async function killUnderWrites(t: Test, patient: Patient, victim: Victim): Promise<void> {
  const writes = async (): Promise<number> => (await patient.server.ask<Statistics>('query-stats')).writes
  const killAt = (await writes()) + 20 + random.below(500)
  const job = ['--name=scratch', `--size=${SCRATCH}`, '--time_based', '--runtime=60', '--iodepth=16', '--fsync=20']
  const background = run(
    'fio',
    '--ioengine=nbd',
    `--uri=${patient.server.uri}`,
    ...job,
    '--rw=randwrite',
    '--bsrange=512-64k',
  )
  // A question after the other: there is no event for a number of writes.
  while ((await writes()) < killAt);
  const decaying = random.below(2) === 0 ? patient.decay(6, 1) : Promise.resolve()
  if (victim === 'everything') await decaying
  await Promise.all([patient.kill(victim), decaying])
  t.not((await background).status, 0, 'the kill cut off a fio that was writing')
}

// --- The model ---------------------------------------------------------------------------------------------------------

const MODEL_SIZE = 16 * MiB
const LANES = 16
const CHECK_STEP = MiB

void t.test(`model: every acknowledged write is there after each of ${MODEL_ROUNDS} kills`, async (t) => {
  const patient = await Patient.admit(t, MODEL_SIZE)
  const model = new GranuleModel(MODEL_SIZE)
  const load = new Load(model)
  for (let round = 0; round < MODEL_ROUNDS; round++) {
    const victim = VICTIMS[round % VICTIMS.length] ?? 'worker'
    const client = await NbdClient.connect(patient.server.uri)
    if (round === 0 || random.below(3) > 0) await patient.decay(10, 2)
    const dead = load.run(client, 30 + random.below(400), () => patient.kill(victim))
    const cut = await dead
    t.same(load.failures.splice(0), [], `kill ${round + 1}, ${victim}: no request failed, no read was wrong`)
    t.ok(cut > 0, `it cut off ${cut} requests`)
    t.same(await checkAll(patient.server, model), [], 'every granule is from the right write')
  }
  await patient.discharge(t)
})

/** Random requests on many lanes at once. */
class Load {
  readonly failures: string[] = []
  readonly #model: GranuleModel
  #writes = 0

  constructor(model: GranuleModel) {
    this.#model = model
  }

  /**
   * Calls `kill` as soon as `count` requests have been answered, and goes on until the connection is lost.
   * @returns how many requests were cut off
   */
  async run(client: NbdClient, count: number, kill: () => Promise<void>): Promise<number> {
    let left = count
    let killed: Promise<void> | undefined
    let cut = 0
    const lane = async (): Promise<void> => {
      for (;;) {
        try {
          await this.#request(client)
        } catch (error) {
          if (!(error instanceof NbdConnectionError)) this.failures.push(String(error))
          else if (killed === undefined) this.failures.push(`lost before it was killed: ${String(error)}`)
          else cut++
          return
        }
        if (--left === 0) killed = kill()
      }
    }
    await Promise.all(Array.from({ length: LANES }, lane))
    await killed
    client.destroy()
    return cut
  }

  async #request(client: NbdClient): Promise<void> {
    const kind = random.below(100)
    if (kind < 5) {
      const done = this.#model.flushing()
      await client.flush()
      done()
      return
    }
    const range = this.#drawRange()
    if (kind < 20) await this.#read(client, range)
    else await this.#write(client, range, kind)
  }

  async #read(client: NbdClient, { offset, length }: Range): Promise<void> {
    const content = Buffer.alloc(length)
    const done = this.#model.reading({ offset, length })
    await client.read(offset, content)
    const wrong = done(content)
    if (wrong !== undefined) this.failures.push(`read: ${wrong}`)
  }

  async #write(client: NbdClient, range: Range, kind: number): Promise<void> {
    const content = this.#model.begin(range, kind < 25 ? 0 : ++this.#writes)
    const options = { fua: kind % 8 === 0 }
    if (kind < 25) await client.writeZeroes(range.offset, range.length, options)
    else await client.write(range.offset, [content], options)
    this.#model.acknowledged(range)
  }

  /** Mostly small, often not aligned to anything, never in the way of a write in flight. */
  #drawRange(): Range {
    for (;;) {
      const granulesMax = random.pick([1, 8, 32, 32, 128, 2048])
      const length = (1 + random.below(granulesMax)) * GRANULE
      const offset = random.below((this.#model.size - length) / GRANULE + 1) * GRANULE
      if (!this.#model.isBusy({ offset, length })) return { offset, length }
    }
  }
}

async function checkAll(server: RemapServer, model: GranuleModel): Promise<string[]> {
  const wrong = await withClient(server, async (client) => {
    const found: string[] = []
    const content = Buffer.alloc(CHECK_STEP)
    for (let offset = 0; offset < model.size; offset += CHECK_STEP) {
      await client.read(offset, content)
      const difference = model.check(offset, content)
      if (difference !== undefined) found.push(difference)
    }
    return found
  })
  model.settle()
  return wrong
}
