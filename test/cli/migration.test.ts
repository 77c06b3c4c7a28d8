/** `grow`, `move-main` and `move-spare` as their users run them. */
import { readFileSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { MiB } from '../../src/util/units.js'
import {
  cli,
  fails,
  MAIN_SIZE,
  MANY_PROCESSES_TIMEOUT_MS,
  newMain,
  newSpare,
  Serve,
  type PairFiles,
} from '../support/cli.js'
import { REFUSED, usedPair } from '../support/refusals.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

/** What the pair serves in the block with a remap, sectors 800 to 807. */
async function served(t: Test, files: PairFiles): Promise<{ content: Buffer; total: number; blocks: number }> {
  const server = await Serve.start(t, files, [])
  const content = await server.read(800 * 512, 8 * 512)
  const { total } = await server.ask<{ total: number }>('query-remaps')
  const { spares } = await server.ask<{ spares: { 'total-blocks': number }[] }>('query-spares')
  await server.end()
  return { content, total, blocks: spares[0]?.['total-blocks'] ?? 0 }
}

void t.test('a spare grows with its disk', async (t) => {
  const pair = await usedPair(t)
  const before = await served(t, pair)
  t.match((await cli(t, 'grow', '--spare', pair.spare)).stdout, `${before.blocks} blocks before, ${before.blocks} now`)
  truncateSync(pair.spare, 20 * MiB)
  t.same(await served(t, pair), before, 'it is used as it was until it is told to grow')
  const grown = await cli(t, 'grow', '--spare', pair.spare, '--json')
  const report = JSON.parse(grown.stdout) as { blocks: number }
  t.match(report, { 'blocks-before': before.blocks, 'lost-sectors': 0 })
  t.ok(report.blocks > 2000 + before.blocks)
  t.same(await served(t, pair), { ...before, blocks: report.blocks })
  t.equal((await cli(t, 'verify', '--spare', pair.spare)).code, 0)
  const server = await Serve.start(t, pair, [])
  await fails(t, REFUSED, /in use by another process/, ['grow', '--spare', pair.spare])
  await server.end('SIGKILL')
  await fails(t, REFUSED, /was not stopped in good order/, ['grow', '--spare', pair.spare], [pair.spare])
  await fails(t, REFUSED, /is not formatted/, ['grow', '--spare', pair.main], [pair.main])
})

void t.test('a pair moves to a bigger main', async (t) => {
  const pair = await usedPair(t)
  const { content } = await served(t, pair)
  const to = newSpare(pair.folder, 'new.img', 2 * MAIN_SIZE)
  const move = (main: string): string[] => ['move-main', '--from', pair.main, '--to', main, '--spare', pair.spare]
  const used = newMain(pair.folder, 'used.img', 5)
  await fails(t, REFUSED, /used\.img is not blank.*--force/, move(used), [used, pair.main])
  const small = newSpare(pair.folder, 'small.img', MAIN_SIZE - 4096)
  await fails(t, REFUSED, /small\.img is too small/, move(small), [small, pair.main])
  await fails(t, REFUSED, /in use|same disk/, move(pair.main), [pair.main])
  const moved = await cli(t, ...move(to), '--json')
  t.match(JSON.parse(moved.stdout), { size: 2 * MAIN_SIZE, 'resumed-at': 0, lost: [] }, moved.stderr)
  t.ok(readFileSync(to).subarray(0, MAIN_SIZE).equals(readFileSync(pair.main)))
  t.match(await served(t, { ...pair, main: to }), { content, total: 0 })
  await fails(t, REFUSED, /the pair was moved from this disk to another one \(\S+new\.img\)/, [
    ...['serve', '--main', pair.main, '--spare', pair.spare, '--socket', join(pair.folder, 'x.sock')],
  ])
})

void t.test('a pair moves to another spare', async (t) => {
  const pair = await usedPair(t)
  const { content } = await served(t, pair)
  const to = newSpare(pair.folder, 'new.img', 12 * MiB)
  const move = (from: string, spare: string): string[] => {
    return ['move-spare', '--main', pair.main, '--from', from, '--to', spare]
  }
  await fails(t, REFUSED, /is not blank|formatted/, move(pair.spare, newMain(pair.folder, 'x.img', 3, 10 * MiB)), [
    pair.main,
  ])
  await fails(t, REFUSED, /are the same disk/, move(pair.spare, pair.main), [pair.main])
  const moved = await cli(t, ...move(pair.spare, to))
  t.match(moved, { code: 0, stdout: /new\.img: 1 blocks\n$/ }, moved.stderr)
  t.match(await served(t, { ...pair, spare: to }), { content, total: 1 })
  await fails(t, REFUSED, /was removed from its pool and holds nothing/, move(pair.spare, to))
})
