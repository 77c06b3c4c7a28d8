/**
 * fio writes and verifies while an operator remaps 100,000 blocks under it, moves some of them to another spare, and all back.
 * `MOVED_BLOCKS=100000` moves all of them to the other spare, which takes a minute or two.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { MiB } from '../../src/util/units.js'
import { cli, MANY_PROCESSES_TIMEOUT_MS, newFolder, newSpare, Serve } from '../support/cli.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

const BLOCKS = 100_000
const MOVED = Number(process.env['MOVED_BLOCKS'] ?? 5000)
const SECTORS_PER_BLOCK = 8
const SIZE = 400 * MiB

interface Job {
  readonly error: number
  readonly read: { readonly total_ios: number }
  readonly write: { readonly total_ios: number }
}

void t.test('a verifying fio sees no difference while 100,000 remaps come, move and go', async (t) => {
  const folder = newFolder(t)
  // Blank, so that the copies are of holes: it is the moving that is tested, not the speed of the disk.
  const pair = {
    folder,
    main: newSpare(folder, 'main.img', SIZE),
    spare: newSpare(folder, 'spare.img', SIZE + 32 * MiB),
  }
  const server = await Serve.start(t, pair)
  const control = ['--control', server.controlPath]
  const fio = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', 'fio', '--name=verify', '--ioengine=nbd', `--uri=${server.uri}`, '--rw=randrw'],
      ...['--bsrange=4k-64k', '--iodepth=16', `--size=${SIZE / MiB}m`, '--verify=crc32c', '--verify_backlog=512'],
      ...[
        '--verify_fatal=1',
        '--randrepeat=0',
        '--loops=1000',
        '--eta=never',
        '--output-format=json',
        '--output=fio.json',
      ],
      ...['--trigger-file=stop'],
    ],
    { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let output = ''
  for (const stream of [fio.stdout, fio.stderr]) stream.on('data', (data: Buffer) => (output += data.toString()))
  const ended = once(fio, 'exit') as Promise<[number | null]>
  const statistics = async (): Promise<number> => (await server.ask<{ writes: number }>('query-stats')).writes
  while ((await statistics()) < 1000) if (fio.exitCode !== null) throw new Error(output)

  const remaps = async (): Promise<number> => (await server.ask<{ remaps: number }>('query-remap-table')).remaps
  const ranges = Array.from({ length: BLOCKS / 20 }, (_, n) => ({ 'main-sector': n * 160, sectors: 80, line: n + 1 }))
  const { batch } = await server.ask<{ batch: number }>('remap-batch-append', { ranges })
  t.match(await server.ask('remap-batch-run', { batch }), { blocks: BLOCKS / 2, skipped: 0 }, 'every other ten')
  const rest = await cli(
    t,
    'add',
    '0',
    'auto',
    String(BLOCKS * SECTORS_PER_BLOCK),
    '--skip-remapped',
    '--json',
    ...control,
  )
  t.same([rest.code, rest.stdout], [0, `{"blocks":${BLOCKS / 2},"skipped":${BLOCKS / 2}}\n`])
  t.equal(await remaps(), BLOCKS)

  if (MOVED < BLOCKS) {
    const back = { 'main-sector': 0, sectors: (BLOCKS - MOVED) * SECTORS_PER_BLOCK }
    t.match(await server.ask('remap-remove', back), { blocks: BLOCKS - MOVED, kept: 0 })
  }
  await server.ask('spare-add', { path: newSpare(folder, 'other.img', SIZE + 32 * MiB) })
  const moved = await cli(t, 'spare', 'remove', pair.spare, ...control)
  t.equal(moved.code, 0, moved.stderr)
  t.equal(await remaps(), MOVED)
  t.match(await server.ask('remap-clear'), { blocks: MOVED, kept: 0 })
  t.equal(await remaps(), 0)
  t.equal(fio.exitCode, null, `fio went on all the time: ${output}`)
  fio.kill('SIGINT')
  await ended
  const [json = '{}'] = /^\{$[^]*^\}$/m.exec(readFileSync(join(folder, 'fio.json'), 'utf8')) ?? []
  const { jobs } = JSON.parse(json) as { jobs: readonly Job[] }
  const [job] = jobs
  t.notMatch(output, /verify|bad magic|error/i)
  t.comment(`${job?.read.total_ios} reads and ${job?.write.total_ios} writes`)
  t.ok((job?.read.total_ios ?? 0) > 1000)
  t.match(await server.end(), { code: 0 })
})
