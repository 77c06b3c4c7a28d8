/** Disks that are not what they should be: each is refused in one sentence, and nothing is written (promise P6). */
import { spawnSync } from 'node:child_process'
import { linkSync, mkdirSync, symlinkSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { HEADER_AREA_SIZE } from '../../src/spare/format.js'
import { MiB } from '../../src/util/units.js'
import { cli, fails, newMain, newPair, newSpare, SPARE_SIZE, MANY_PROCESSES_TIMEOUT_MS } from '../support/cli.js'
import { FAILED, REFUSED, refuses, scribble, serve, usedPair } from '../support/refusals.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

void t.test('what is not there, or is no disk', async (t) => {
  const pair = newPair(t)
  const directory = join(pair.folder, 'directory')
  mkdirSync(directory)
  const empty = newSpare(pair.folder, 'empty', 0)
  const none = join(pair.folder, 'none')
  for (const side of ['main', 'spare']) {
    await refuses(t, { ...pair, [side]: none }, /cannot open \S*none: there is no such file/, { code: FAILED })
    await refuses(t, { ...pair, [side]: directory }, /directory is neither a file, nor a block device, nor an NBD URI/)
    await refuses(t, { ...pair, [side]: '/dev/null' }, /neither a file, nor a block device/)
    await refuses(t, { ...pair, [side]: empty }, /empty is empty: create it with its final size first/)
  }
  await fails(t, FAILED, /there is no such file/, ['verify', '--spare', none])
  await fails(t, REFUSED, /carries no nbd-remap header/, ['verify', '--spare', pair.spare])
})

void t.test('disks that are too small', async (t) => {
  const pair = newPair(t)
  const small = newSpare(pair.folder, 'small', 8 * MiB)
  const args = ['--create']
  await refuses(t, { ...pair, spare: small }, /spare \S*small is too small: 8388608 bytes, and at least \d+/, { args })
  const tiny = newMain(pair.folder, 'tiny', 1, 512)
  await refuses(t, { ...pair, main: tiny }, /main \S*tiny is too small: 512 bytes/, { args })
  const format = ['format', '--main', pair.main, '--spare', small, '--force']
  await fails(t, REFUSED, /too small/, format, [small])
})

void t.test('the smallest spare that is said to be enough is enough', async (t) => {
  const pair = newPair(t)
  const small = newSpare(pair.folder, 'small', MiB)
  const said = await fails(t, REFUSED, /at least \d+/, serve({ ...pair, spare: small }, '--create'), [small])
  const least = Number(/at least (\d+)/.exec(said)?.[1])
  truncateSync(small, least - 1)
  await refuses(t, { ...pair, spare: small }, /too small/, { args: ['--create'] })
  truncateSync(small, least)
  const format = await cli(t, 'format', '--main', pair.main, '--spare', small)
  t.equal(format.code, 0, format.stderr)
})

void t.test('one disk given as both, under any name', async (t) => {
  const pair = newPair(t)
  const [link, symlink] = [join(pair.folder, 'link'), join(pair.folder, 'symlink')]
  linkSync(pair.spare, link)
  symlinkSync(pair.spare, symlink)
  for (const main of [pair.spare, link, symlink]) {
    await refuses(t, { ...pair, main }, /main \S+ and spare \S+ are the same disk/, { args: ['--create'] })
    const format = ['format', '--main', main, '--spare', pair.spare, '--force']
    await fails(t, REFUSED, /are the same disk/, format, [pair.spare])
  }
  const uri = 'nbd://127.0.0.1:1/disk'
  await fails(t, REFUSED, /are the same disk/, serve({ ...pair, main: uri, spare: 'nbd+tcp://127.0.0.1:1/disk' }))
})

void t.test('a loop device over the file of the other disk', async (t) => {
  const pair = newPair(t)
  const { status, stdout, stderr } = spawnSync('losetup', ['--find', '--show', pair.spare], { encoding: 'utf8' })
  if (status !== 0) {
    t.comment(`loop devices cannot be had here (${stderr.trim()}): what a loop device would be is refused instead`)
    await refuses(t, { ...pair, main: '/dev/loop-that-is-not-there' }, /there is no such file or device/, {
      code: FAILED,
    })
    return
  }
  const loop = stdout.trim()
  t.teardown(() => spawnSync('losetup', ['--detach', loop]))
  await refuses(t, { ...pair, main: loop }, /are the same disk/, { args: ['--create'] })
  await refuses(t, { ...pair, main: pair.spare, spare: loop }, /are the same disk/, { args: ['--create'] })
})

void t.test('main and spare swapped', async (t) => {
  const pair = await usedPair(t)
  const swapped = { ...pair, main: pair.spare, spare: pair.main }
  await refuses(t, swapped, /carries the header of an nbd-remap spare: are --main and --spare swapped\?/)
  const format = ['format', '--main', pair.spare, '--spare', pair.main, '--force']
  await fails(t, REFUSED, /swapped/, format, [pair.main, pair.spare])
})

void t.test('a blank spare without --create, and one with data with it', async (t) => {
  const pair = newPair(t)
  await refuses(t, pair, /spare \S+ is blank: add --create/)
  await scribble(pair.spare, 5 * MiB + 17, Buffer.from('x'))
  await refuses(t, pair, /not formatted and not blank.*format --force/)
  await refuses(t, pair, /not formatted and not blank/, { args: ['--create'] })
  const format = ['format', '--main', pair.main, '--spare', pair.spare]
  await fails(t, REFUSED, /is not blank.*--force/, format, [pair.spare])
  const forced = await cli(t, ...format, '--force')
  t.equal(forced.code, 0, forced.stderr)
})

void t.test('data at the very end, or where the slots would be, is data', async (t) => {
  const pair = newPair(t)
  for (const offset of [SPARE_SIZE - 1, HEADER_AREA_SIZE, HEADER_AREA_SIZE + 30_000]) {
    const spare = newSpare(pair.folder, `spare-${offset}`)
    await scribble(spare, offset, Buffer.from('x'))
    await refuses(t, { ...pair, spare }, /not blank/, { args: ['--create'] })
  }
})
