import { spawnSync } from 'node:child_process'
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { AllocationExtent } from '../../src/device/device.js'
import { openFile } from '../../src/device/file.js'
import { HoleFinder } from '../../src/device/hole-finder.js'
import { silentLog } from '../../src/util/log.js'
import { MiB } from '../../src/util/units.js'

/** A file of `size` bytes with data in [start, end) of each of `data`, and holes elsewhere. */
function sparseFile(t: Test, size: number, data: readonly (readonly [number, number])[]): string {
  const path = join(t.testdir(), 'disk')
  const fd = openSync(path, 'w+')
  ftruncateSync(fd, size)
  for (const [start, end] of data) writeSync(fd, Buffer.alloc(end - start, 'x'), 0, end - start, start)
  closeSync(fd)
  return path
}

function finderOf(t: Test, path: string): HoleFinder {
  const fd = openSync(path, 'r')
  const finder = new HoleFinder(fd)
  t.teardown(() => {
    finder.close()
    closeSync(fd)
  })
  return finder
}

const text = (extents: readonly AllocationExtent[]): string =>
  extents.map(({ length, allocation }) => `${allocation} ${length / MiB}`).join(', ')

void t.test('data and holes are told apart, from any offset, up to a number of extents', async (t) => {
  const path = sparseFile(t, 10 * MiB, [
    [MiB, 2 * MiB],
    [5 * MiB, 6 * MiB],
  ])
  const finder = finderOf(t, path)
  t.equal(text(await finder.extents(0, 10 * MiB, 100)), 'hole 1, data 1, hole 3, data 1, hole 4')
  t.equal(text(await finder.extents(1.5 * MiB, 4 * MiB, 100)), 'data 0.5, hole 3, data 0.5')
  t.equal(text(await finder.extents(0, 10 * MiB, 2)), 'hole 1, data 1', 'no more than asked for')
  t.equal(text(await finder.extents(7 * MiB, 3 * MiB, 100)), 'hole 3', 'after the last data')
  const many = await Promise.all(Array.from({ length: 50 }, (_, n) => finder.extents((n % 10) * MiB, MiB, 1)))
  t.same(
    many.map(text).slice(0, 10),
    'hdhhhdhhhh'.split('').map((kind) => (kind === 'h' ? 'hole 1' : 'data 1')),
  )
})

void t.test('what is written later is data', async (t) => {
  const path = sparseFile(t, 4 * MiB, [[0, 4096]])
  const { device } = openFile(path, { readOnly: false, log: silentLog })
  t.equal(text((await device.extents?.(MiB, 3 * MiB, 10)) ?? []), 'hole 3')
  await device.write(2 * MiB, [Buffer.alloc(MiB, 'y')])
  t.equal(text((await device.extents?.(MiB, 3 * MiB, 10)) ?? []), 'hole 1, data 1, hole 1')
  await device.close()
})

void t.test('where nothing can be known all is data', async (t) => {
  const whole = sparseFile(t, MiB, [[0, MiB]])
  t.equal(text(await finderOf(t, whole).extents(0, MiB, 10)), 'data 1', 'a file without holes')
  const holes = sparseFile(t, MiB, [])
  const fd = openSync(holes, 'r')
  t.teardown(() => {
    closeSync(fd)
  })
  const path = process.env['PATH']
  process.env['PATH'] = '/nowhere'
  const finder = new HoleFinder(fd)
  const answers = await Promise.all([finder.extents(0, MiB, 10), finder.extents(0, MiB / 2, 10)])
  process.env['PATH'] = path
  t.same(answers.map(text), ['data 1', 'data 0.5'], 'without Perl')
  t.equal(text(await finder.extents(0, MiB, 10)), 'data 1')
  t.match(text(await finderOf(t, holes).extents(0, MiB, 10)), 'hole 1', 'with Perl')
})

void t.test('no helper is left behind, whoever goes first', async (t) => {
  const path = sparseFile(t, MiB, [])
  const finder = finderOf(t, path)
  const pending = finder.extents(0, MiB, 10)
  finder.close()
  t.match(text(await pending), /^(hole|data) 1$/)
  const program = `
    import { openSync } from 'node:fs'
    import { HoleFinder } from ${JSON.stringify(import.meta.resolve('../../src/device/hole-finder.js'))}
    await new HoleFinder(openSync(${JSON.stringify(path)})).extents(0, 1, 1)
    process.kill(process.pid, 'SIGKILL')`
  const { pid, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', program])
  t.equal(signal, 'SIGKILL')
  const helpers = () => spawnSync('pgrep', ['-f', `/proc/${pid}/fd/`]).stdout.toString()
  // It ends when it finds its standard input closed, which takes a moment.
  while (helpers() !== '');
  t.equal(helpers(), '')
})

void t.test('zeros are fast where a hole can be punched, and refused unchanged elsewhere', async (t) => {
  const path = sparseFile(t, 32 * MiB, [[0, 32 * MiB]])
  const { device } = openFile(path, { readOnly: false, log: silentLog })
  const refused = { name: 'DeviceError', code: 'ENOTSUP' }
  await t.rejects(Promise.resolve(device.writeZeroes(0, 4096, { fast: true })), refused)
  await t.rejects(Promise.resolve(device.writeZeroes(0, 32 * MiB, { fast: true, noHole: true })), refused)
  const content = Buffer.alloc(32 * MiB)
  await device.read(0, content)
  t.ok(content.equals(Buffer.alloc(32 * MiB, 'x')), 'nothing changed')
  await device.writeZeroes(MiB, 16 * MiB, { fast: true })
  await device.read(0, content)
  t.ok(content.subarray(MiB, 17 * MiB).equals(Buffer.alloc(16 * MiB)))
  t.equal(text((await device.extents?.(0, 32 * MiB, 10)) ?? []), 'data 1, hole 16, data 15')
  await device.close()
})
