/** What operators ask of remaps over the control socket: what cannot be, what collides, a million sectors, and lists back in. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { MiB } from '../../src/util/units.js'
import {
  cli,
  MANY_PROCESSES_TIMEOUT_MS,
  MAIN_SIZE,
  newFolder,
  newPair,
  newSpare,
  pattern,
  Serve,
} from '../support/cli.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

void t.test('requests that cannot be are refused over the control socket, and change nothing', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create'])
  await server.ask('remap-add', { 'main-sector': 80, sectors: 8, 'spare-sector': 160 })
  const refused: [string, Record<string, unknown>, RegExp][] = [
    ['remap-add', { 'main-sector': 8192, sectors: 8 }, /leave the main disk, which has 8192 sectors/],
    ['remap-add', { 'main-sector': 8184, sectors: 9 }, /main-sector 8184 and sectors 9 leave the main disk/],
    ['remap-add', { 'main-sector': 72, sectors: 24 }, /: main sector 80 is remapped already$/],
    ['remap-add', { 'main-sector': 0, sectors: 8, 'spare-sector': 160 }, /: spare sector 160 is in use$/],
    [
      'remap-add',
      { 'main-sector': 0, sectors: 16, 'spare-sector': 8_000_000 },
      /leaves the spare's data area, which has/,
    ],
    ['remap-add', { 'main-sector': 0, sectors: 8, 'spare-sector': 3 }, /is not at the start of a block of 8 sectors/],
    ['remap-add', { 'main-sector': 0, sectors: 8, 'spare-sector': 0, spare: 'nosuch' }, /there is no spare nosuch/],
    ['remap-add', { 'main-sector': 0, sectors: 0 }, /'sectors' expects a value of at least 1/],
    ['remap-add', { 'main-sector': 0, sectors: -8 }, /'sectors' expects a value of at least 1/],
    ['remap-add', { 'main-sector': 0, sectors: 1.5 }, /'sectors'/],
    ['remap-add', { 'main-sector': 0, sectors: '8' }, /'sectors'/],
    ['remap-add', { 'main-sector': 0, sectors: 2 ** 53 }, /sectors/],
    ['remap-add', { 'main-sector': 0, sectors: 1e300 }, /sectors/],
    ['remap-remove', { 'main-sector': 0, sectors: 8 }, /: main sector 0 is not remapped$/],
    ['remap-remove', { 'main-sector': 80, sectors: 16 }, /: main sector 88 is not remapped$/],
    ['remap-remove', { 'main-sector': 8192, sectors: 8 }, /leave the main disk/],
    ['remap-batch-run', { batch: 77 }, /77/],
  ]
  for (const [command, args, message] of refused) {
    await t.rejects(server.ask(command, args), { message }, `${command} ${JSON.stringify(args)}`)
  }
  t.match(await server.ask('query-remaps'), {
    remaps: [{ 'main-sector': 80, 'spare-sector': 160, sectors: 8 }],
    total: 1,
  })
  t.match(await server.ask('query-spares'), { spares: [{ 'remapped-blocks': 1 }] })
  await server.end()
})

void t.test('of two batches that collide one is carried out, and the other one says in which line', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create'])
  const batchAt = async (first: number): Promise<number> => {
    const ranges = Array.from({ length: 100 }, (_, n) => ({ 'main-sector': first + n * 16, sectors: 8, line: n + 1 }))
    return (await server.ask<{ batch: number }>('remap-batch-append', { ranges })).batch
  }
  // They share every range but the first of one and the last of the other.
  const batches = [await batchAt(0), await batchAt(16)]
  const outcomes = await Promise.allSettled(batches.map((batch) => server.ask('remap-batch-run', { batch })))
  const done = outcomes.filter((outcome) => outcome.status === 'fulfilled')
  t.same(
    done.map(({ value }) => value),
    [{ blocks: 100, skipped: 0 }],
  )
  const [failed] = outcomes.filter((outcome) => outcome.status === 'rejected')
  t.match(failed?.reason, {
    message: /: line [12]: main sector 16 is (being moved by another request|remapped already)/,
  })
  t.match(await server.ask('query-remap-table'), { remaps: 100 })
  await server.end()
})

void t.test('a million sectors are remapped in one call, and are there after a restart', async (t) => {
  const folder = newFolder(t)
  const main = newSpare(folder, 'main.img', 490 * MiB)
  const pair = { folder, main, spare: newSpare(folder, 'spare.img', 520 * MiB) }
  const server = await Serve.start(t, pair, ['--create'])
  const all = { 'main-sector': 0, sectors: 1_000_000 }
  t.same(await server.ask('remap-add', { ...all, copy: false }), { blocks: 125_000, skipped: 0 })
  const expected = { remaps: [{ ...all, 'spare-sector': 0, state: 'remapped' }], total: 1 }
  t.match(await server.ask('query-remaps'), expected)
  await server.end('SIGKILL')
  const next = await Serve.start(t, pair, [], 'b')
  t.match(await next.ask('query-remaps'), expected)
  await next.end()
})

void t.test('what is exported can be read again, in each of the three forms', async (t) => {
  const one = await Serve.start(t, newPair(t), ['--create'])
  await one.ask('remap-add', { 'main-sector': 80, sectors: 16, 'spare-sector': 800 })
  await one.ask('remap-add', { 'main-sector': 400, sectors: 8 })
  await one.ask('remap-add', { 'main-sector': 4003, sectors: 2, lost: true })
  const exported = async (server: Serve, ...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await cli(t, 'remaps', '--control', server.controlPath, ...args)
    t.same([code, stderr], [0, ''])
    return stdout
  }
  for (const [how, ...args] of [['own'], ['badblocks', '--unit', '512'], ['ddrescue']] as const) {
    const list = await exported(one, '--format', how, ...args)
    const other = await Serve.start(t, newPair(t), ['--create'])
    const path = join(newFolder(t), 'list')
    writeFileSync(path, list)
    const added = await cli(t, 'add', '--from', path, ...args, '--control', other.controlPath)
    t.same([added.code, added.stdout], [0, '4 blocks remapped\n'], `${how} ${args.join(' ')}: ${added.stderr}`)
    t.equal(await exported(other, '--format', how, ...args), list)
    t.same(await other.read(80 * 512, 4096), pattern(MAIN_SIZE).subarray(80 * 512, 80 * 512 + 4096))
    await other.end()
  }
  await one.end()
})
