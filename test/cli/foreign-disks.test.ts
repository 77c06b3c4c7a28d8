/** Disks that belong to others, or changed meanwhile: each is refused in one sentence, and nothing is written (promise P6). */
import { copyFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  cli,
  fails,
  MAIN_SIZE,
  newFolder,
  newMain,
  newPair,
  newSpare,
  pattern,
  Serve,
  MANY_PROCESSES_TIMEOUT_MS,
} from '../support/cli.js'
import { REFUSED, refuses, scribble, usedPair } from '../support/refusals.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

void t.test('a formatted spare is not formatted again without being asked', async (t) => {
  const pair = await usedPair(t)
  const format = ['format', '--main', pair.main, '--spare', pair.spare]
  await fails(t, REFUSED, /is already formatted.*format --force/, format, [pair.spare])
  const server = await Serve.start(t, pair, ['--create', '--block-size', '512'])
  t.match(await server.ask('query-remaps'), { remaps: [{ 'main-sector': 800, sectors: 8 }], total: 1 })
  t.match(server.stderr, /formatted already, with blocks of 4096 bytes: --block-size 512 has no effect/)
  await server.end()
  t.equal((await cli(t, ...format, '--force')).code, 0)
  const emptied = await Serve.start(t, pair, [])
  t.match(await emptied.ask('query-remaps'), { total: 0 })
  await emptied.end()
})

void t.test('the spare of another main', async (t) => {
  const pair = await usedPair(t)
  const other = newMain(pair.folder, 'other.img', 2)
  await refuses(t, { ...pair, main: other }, /other\.img is refused: its content is not what it was.*--accept-main/)
  const copy = join(pair.folder, 'copy.img')
  copyFileSync(pair.main, copy)
  const server = await Serve.start(t, { ...pair, main: copy }, [])
  await server.end()
  t.match(server.stderr, /stopped/, 'a main that was copied elsewhere, content and all, is the same main')
})

void t.test('blank mains all look alike: the spare of one is refused for another', async (t) => {
  const folder = newFolder(t)
  const pair = { folder, main: newSpare(folder, 'main', MAIN_SIZE), spare: newSpare(folder) }
  await (await Serve.start(t, pair)).end()
  const other = newSpare(folder, 'other', MAIN_SIZE)
  await refuses(t, { ...pair, main: other }, /the spare belongs to another main.*--accept-main/)
})

void t.test('a main that was replaced under its path, and one that was written behind the remapper', async (t) => {
  const pair = await usedPair(t)
  await scribble(pair.main, 0, pattern(64 * 1024, 9))
  await refuses(t, pair, /its content is not what it was when the pair was last stopped/)
  writeFileSync(pair.main, pattern(MAIN_SIZE, 3))
  await refuses(t, pair, /its content is not what it was/)
  const server = await Serve.start(t, pair, ['--accept-main'])
  t.match(server.stderr, /warn {2}main \S+ is accepted as told/)
  await server.end()
  const again = await Serve.start(t, pair, [])
  await again.end()
  t.notMatch(again.stderr, /accepted/, 'and is the right one from then on')
})

void t.test('after a crash the content may differ, the disk may not', async (t) => {
  const pair = newPair(t)
  const server = await Serve.start(t, pair)
  await server.end('SIGKILL')
  const other = newMain(pair.folder, 'other.img', 2)
  await refuses(t, { ...pair, main: other }, /the spare belongs to another main.*--accept-main/)
})

void t.test('a main that grew or shrank', async (t) => {
  const pair = await usedPair(t)
  for (const size of [MAIN_SIZE + 4096, MAIN_SIZE - 4096]) {
    truncateSync(pair.main, size)
    const sentence = new RegExp(`belongs to a main of ${MAIN_SIZE} bytes .*and this one has ${size} bytes; `)
    await refuses(t, pair, sentence)
    await refuses(t, pair, sentence, { args: ['--accept-main'] })
  }
})
