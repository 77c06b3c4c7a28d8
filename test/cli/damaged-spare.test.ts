/** Spares whose metadata is damaged: what cannot be repaired is refused in one sentence, and nothing is written (promise P6). */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { openDisk } from '../../src/device/open.js'
import { encodeHeader, HEADER_AREA_SIZE, HEADER_OFFSETS, HEADER_SIZE, PAGE_SIZE } from '../../src/spare/format.js'
import { readCopies } from '../../src/spare/header.js'
import { silentLog } from '../../src/util/log.js'
import { MiB } from '../../src/util/units.js'
import { cli, digest, fails, pattern, Serve, SPARE_SIZE, MANY_PROCESSES_TIMEOUT_MS } from '../support/cli.js'
import { REFUSED, refuses, scribble, usedPair } from '../support/refusals.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

void t.test('a spare that was truncated is refused, one that grew is not', async (t) => {
  const pair = await usedPair(t)
  const whole = readFileSync(pair.spare)
  for (const size of [SPARE_SIZE - 1, 9 * MiB, 4096]) {
    truncateSync(pair.spare, size)
    const sentence = new RegExp(`was ${SPARE_SIZE} bytes long when formatted and is ${size} bytes now`)
    await refuses(t, pair, sentence, { args: ['--create'] })
    await fails(t, REFUSED, sentence, ['verify', '--spare', pair.spare], [pair.spare])
  }
  writeFileSync(pair.spare, whole)
  truncateSync(pair.spare, SPARE_SIZE + MiB)
  const server = await Serve.start(t, pair, [])
  t.match(await server.ask('query-remaps'), { total: 1 })
  await server.end()
})

void t.test('all five headers destroyed', async (t) => {
  const pair = await usedPair(t)
  for (const offset of HEADER_OFFSETS) await scribble(pair.spare, offset + 100, pattern(50))
  const sentence = /none of its 5 header copies is intact.*restore it from a copy/
  await refuses(t, pair, sentence)
  await refuses(t, pair, sentence, { args: ['--create', '--accept-main'] })
  await fails(t, REFUSED, sentence, ['verify', '--spare', pair.spare], [pair.spare])
})

void t.test('all five headers wiped: the slots that are left are not overwritten', async (t) => {
  const pair = await usedPair(t)
  for (const offset of HEADER_OFFSETS) await scribble(pair.spare, offset, Buffer.alloc(HEADER_SIZE))
  await refuses(t, pair, /has a slot table and no header\. .*"nbd-remap import"/, { args: ['--create'] })
  const format = ['format', '--main', pair.main, '--spare', pair.spare]
  await fails(t, REFUSED, /is not blank/, format, [pair.spare])
})

void t.test('four of five headers destroyed is repaired', async (t) => {
  const pair = await usedPair(t)
  for (const offset of HEADER_OFFSETS.slice(0, 4)) await scribble(pair.spare, offset, pattern(HEADER_SIZE))
  t.equal((await cli(t, 'verify', '--spare', pair.spare)).code, 1)
  const server = await Serve.start(t, pair, [])
  t.match(server.stderr, /header copy 3 was repaired/)
  await server.end()
  t.equal((await cli(t, 'verify', '--spare', pair.spare)).code, 0)
})

void t.test('the header of a newer version', async (t) => {
  const pair = await usedPair(t)
  const disk = await openDisk(pair.spare, { readOnly: true, log: silentLog })
  const [first] = await readCopies(disk.device)
  await disk.device.close()
  if (first?.kind !== 'valid') throw new Error('the header cannot be read')
  const newer = { ...first.header, version: 99, sequence: first.header.sequence + 1 }
  await scribble(pair.spare, 0, encodeHeader(newer, 0))
  const sentence = /format version 99.*use the nbd-remap that wrote it/
  await refuses(t, pair, sentence, { args: ['--create'] })
  await fails(t, REFUSED, sentence, ['verify', '--spare', pair.spare], [pair.spare])
  const format = ['format', '--main', pair.main, '--spare', pair.spare]
  await fails(t, REFUSED, /already formatted/, format, [pair.spare])
})

void t.test('a slot page without an intact copy', async (t) => {
  const pair = await usedPair(t)
  const before = digest(pair.spare)
  for (const offset of [HEADER_AREA_SIZE, SPARE_SIZE - slotTableSize(await geometryOf(pair.spare))]) {
    await scribble(pair.spare, offset + 200, pattern(16))
  }
  t.not(digest(pair.spare), before)
  const sentence = /slot page\(s\) have no intact copy, so some remaps are unknown.*restore it from a copy/
  await refuses(t, pair, sentence)
  const verify = await cli(t, 'verify', '--spare', pair.spare)
  t.equal(verify.code, 1)
  t.match(verify.stdout, /WRONG: +slot page 0: no copy is intact, its remaps are lost/)
})

const slotTableSize = (geometry: { slotPages: number }): number => geometry.slotPages * PAGE_SIZE

async function geometryOf(spare: string): Promise<{ slotPages: number }> {
  const disk = await openDisk(spare, { readOnly: true, log: silentLog })
  const [first] = await readCopies(disk.device)
  await disk.device.close()
  if (first?.kind !== 'valid') throw new Error('the header cannot be read')
  return first.header.geometry
}
