/**
 * Promise P10: a run with faults can be repeated from its seed. And the question that injected faults raise: which rule
 * was it that a client's error comes from?
 */
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { FaultEntry } from '../../src/faults/fault-log.js'
import type { InjectedRule } from '../../src/faults/injection.js'
import type { FaultRule } from '../../src/faults/vocabulary.js'
import { NbdServerError } from '../../src/nbd/client-errors.js'
import type { NbdClient } from '../../src/nbd/client.js'
import { QmpClient } from '../../src/qmp/client.js'
import { Random } from '../../src/util/random.js'
import { SECTOR_SIZE } from '../../src/util/units.js'
import { MAIN_SIZE, MANY_PROCESSES_TIMEOUT_MS, newFolder, newMain, newPair, newSpare, Serve } from '../support/cli.js'
import { seededRandom } from '../support/random.js'

/** Everything that is drawn by chance: places, strikes, delays, growth, ageing, torn sectors, damaged bits. */
const RULES: readonly FaultRule[] = [
  { 'random-sectors': 20, operations: ['read', 'write'] },
  { percent: 10, 'cluster-sectors': 16, operations: ['read'], probability: 0.4, 'heals-on-write': true },
  { clusters: 40, operations: ['write'], effect: 'tear', probability: 0.5 },
  { effect: 'delay', distribution: 'exponential', 'delay-ms': 0.2, 'delay-max-ms': 1, probability: 0.1 },
  { clusters: 60, effect: 'corrupt', bits: 3, probability: 0.5 },
  {
    clusters: 40,
    effect: 'ageing',
    'delay-ms': 1,
    'weak-after': 100,
    'bad-after': 300,
    grow: { sectors: 8, 'every-requests': 20, 'up-to': 600 },
  },
  { disk: 'spare-data', operations: ['write'], probability: 0.2 },
  { operations: ['flush'], after: 2, times: 2 },
]

interface Run {
  readonly log: readonly FaultEntry[]
  readonly remaps: unknown
  readonly rules: unknown
  /** What the client got of each request. */
  readonly answers: readonly string[]
}

async function run(t: Test, faultSeed: string, workload: string): Promise<Run> {
  const folder = newFolder(t)
  const files = { folder, main: newMain(folder), spare: newSpare(folder) }
  const file = join(folder, 'faults.json')
  writeFileSync(file, JSON.stringify({ seed: 'of the file', rules: RULES }))
  // What the clock decides elsewhere is left out: reads that are slow because the machine is, and checks now and then.
  const quiet = ['--create', '--slow-read', '3600', '--self-check', '0']
  const server = await Serve.start(t, files, [...quiet, '--faults', file, '--fault-seed', faultSeed])
  const client = await server.connect()
  const answers = await work(client, new Random(workload))
  await client.disconnect()
  const { rules } = await server.ask<{ rules: readonly InjectedRule[] }>('query-faults')
  const remaps = await server.ask<{ remaps: readonly object[] }>('query-remaps')
  const result = {
    log: (await wholeLog(server)).map((entry) => ({ ...entry, time: '', name: '' })),
    remaps: remaps.remaps.map((remap) => ({ ...remap, spare: '' })),
    rules: rules.map((rule) => ({ ...rule, parts: rule.parts.map((part) => ({ ...part, name: '' })) })),
    answers,
  }
  t.same(await server.end(), { code: 0, signal: null })
  return result
}

const REQUESTS = 400
const SECTORS_MAX = 24

/** One request after the other, so that they reach the disks in one order. */
async function work(client: NbdClient, random: Random): Promise<string[]> {
  const answers: string[] = []
  for (let n = 0; n < REQUESTS; n++) {
    const sectors = 1 + random.below(SECTORS_MAX)
    const offset = random.below(MAIN_SIZE / SECTOR_SIZE - sectors) * SECTOR_SIZE
    answers.push(await answerOf(() => request(client, random, offset, sectors * SECTOR_SIZE)))
  }
  return answers
}

async function request(client: NbdClient, random: Random, offset: number, length: number): Promise<string> {
  const kind = random.below(20)
  if (kind === 0) await client.flush()
  else if (kind === 1) await client.writeZeroes(offset, length, {})
  else if (kind < 10) await client.write(offset, [random.bytes(length)], {})
  else {
    const content = Buffer.alloc(length)
    await client.read(offset, content)
    return createHash('sha256').update(content).digest('hex')
  }
  return 'done'
}

async function answerOf(action: () => Promise<string>): Promise<string> {
  try {
    return await action()
  } catch (error) {
    if (!(error instanceof NbdServerError)) throw error
    // Before it stands the folder of this run.
    return error.message.slice(error.message.indexOf('NBD_CMD'))
  }
}

async function wholeLog(server: Serve): Promise<FaultEntry[]> {
  const entries: FaultEntry[] = []
  for (;;) {
    const page = await server.ask<{ entries: readonly FaultEntry[]; last: number }>('query-fault-log', {
      since: entries.at(-1)?.number ?? 0,
    })
    entries.push(...page.entries)
    if (page.entries.length === 0) return entries
  }
}

void t.test('the same seed gives the same run twice', { timeout: MANY_PROCESSES_TIMEOUT_MS }, async (t) => {
  const random = seededRandom(t)
  const first = await run(t, random.seed, 'workload')
  const second = await run(t, random.seed, 'workload')
  t.same(second.log, first.log, 'the same faults, in the same order')
  t.same(second.answers, first.answers, 'the client got the same answers')
  t.same(second.remaps, first.remaps, 'the same blocks were remapped to the same places')
  t.same(second.rules, first.rules, 'the rules have grown and aged to the same state')
  const effects = new Set(first.log.map(({ effect }) => effect))
  t.same([...effects].sort(), ['ageing', 'corrupt', 'delay', 'error', 'tear'], 'and all kinds of them were struck')
  t.ok(first.answers.includes('done') && first.answers.some((answer) => answer.includes('EIO')))
  const other = await run(t, `${random.seed}, another one`, 'workload')
  t.notSame(other.log, first.log, 'another seed gives other faults')
})

void t.test('the error of a client leads to the rule that caused it', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', '--fault-injection'])
  await server.ask('inject-error', {
    rules: [
      { id: 'scratch', sectors: '2048-2055,3000' },
      { id: 'unplugged', effect: 'gone', after: 1_000_000 },
    ],
  })
  const qmp = await QmpClient.connect(server.controlPath)
  const told = qmp.events('CLIENT_ERROR', 'IO_ERROR', 'FAULT_INJECTED')
  const client = await server.connect()
  await t.rejects(client.read(3000 * SECTOR_SIZE, Buffer.alloc(SECTOR_SIZE)), /EIO/)
  const seen = new Map<string, number>()
  while (!seen.has('CLIENT_ERROR')) {
    const { event, data } = await told.next()
    const { fault, number } = data as { fault?: number; number?: number }
    if (!seen.has(event)) seen.set(event, fault ?? number ?? 0)
  }
  const fault = seen.get('CLIENT_ERROR') ?? 0
  t.ok(fault > 0, 'the event that tells the error has a number')
  t.equal(seen.get('IO_ERROR'), fault, 'the same as the event of the disk')
  const { entries } = await server.ask<{ entries: readonly FaultEntry[] }>('query-fault-log', {
    since: fault - 1,
    limit: 1,
  })
  t.match(entries, [{ number: fault, rule: 'scratch', disk: 'main', operation: 'read', effect: 'error', error: 'EIO' }])
  const touching = await server.ask<{ entries: readonly FaultEntry[] }>('query-fault-log', { sector: 3000 })
  t.ok(touching.entries.length > 0 && touching.entries.every(({ rule }) => rule === 'scratch'))
  await server.until(() => server.stderr.includes(`"fault":${fault}`), 'the log says it, too')
  await qmp.close()
  await client.disconnect()
  t.same(await server.end(), { code: 0, signal: null })
})
