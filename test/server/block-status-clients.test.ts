/** What real clients make of the metadata contexts. */
import { closeSync, ftruncateSync, openSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { FaultInjector } from '../../qemu/faults.js'
import { RemapServer } from '../../qemu/remap-server.js'
import { StorageDaemon } from '../../qemu/storage-daemon.js'
import { KiB, MiB, sector } from '../../src/util/units.js'
import { newFolder, newSpare, PROGRAM } from '../support/cli.js'
import { nbdsh, run, runOk } from '../support/tools.js'
import { BLOCK, LOST_BLOCK, REMAPPED_BLOCK, servePair } from '../support/served-pair.js'

const SIZE = MiB

interface MapEntry {
  readonly offset: number
  readonly length: number
  readonly type: number
  readonly description?: string
}

const mapOf = async (uri: string, context?: string): Promise<[number, number][]> => {
  const map = await runOk('nbdinfo', context === undefined ? '--map' : `--map=${context}`, '--json', uri)
  return (JSON.parse(map) as MapEntry[]).map(({ length, type }) => [length, type])
}

/** The first half of main is a hole. */
async function serveHalf(t: Test): Promise<string> {
  const { path, memory } = await servePair(t, SIZE)
  memory.extents = (offset, length) => {
    const hole = Math.min(length, Math.max(0, SIZE / 2 - offset))
    const extents = [
      { length: hole, allocation: 'hole' as const },
      { length: length - hole, allocation: 'data' as const },
    ]
    return Promise.resolve(extents.filter((extent) => extent.length > 0))
  }
  return `nbd+unix:///disk?socket=${path}`
}

const AROUND_LOST = (LOST_BLOCK + 1) * BLOCK

void t.test('nbdinfo --map shows holes and data', async (t) => {
  const uri = await serveHalf(t)
  t.same(await mapOf(uri), [
    [REMAPPED_BLOCK * BLOCK, 3],
    [BLOCK, 0],
    [(LOST_BLOCK - REMAPPED_BLOCK - 1) * BLOCK, 3],
    [BLOCK, 0],
    [SIZE / 2 - AROUND_LOST, 3],
    [SIZE / 2, 0],
  ])
  t.match(await runOk('nbdinfo', '--list', uri), 'nbd-remap:state')
})

void t.test('nbdinfo --map=nbd-remap:state shows what was remapped and what is lost', async (t) => {
  const uri = await serveHalf(t)
  t.same(await mapOf(uri, 'nbd-remap:state'), [
    [REMAPPED_BLOCK * BLOCK, 0],
    [BLOCK, 1],
    [(LOST_BLOCK - REMAPPED_BLOCK - 1) * BLOCK, 0],
    [1024, 1],
    [1024, 2],
    [2048, 1],
    [SIZE - AROUND_LOST, 0],
  ])
})

void t.test('qemu-img map agrees', async (t) => {
  const uri = await serveHalf(t)
  const map = JSON.parse(await runOk('qemu-img', 'map', '--output=json', '-f', 'raw', uri)) as {
    start: number
    length: number
    zero: boolean
    data: boolean
  }[]
  t.match(map, [
    { start: 0, length: REMAPPED_BLOCK * BLOCK, zero: true, data: false },
    { length: BLOCK, zero: false, data: true },
    { length: (LOST_BLOCK - REMAPPED_BLOCK - 1) * BLOCK, zero: true, data: false },
    { length: BLOCK, zero: false, data: true },
    { length: SIZE / 2 - AROUND_LOST, zero: true, data: false },
    { length: SIZE / 2, zero: false, data: true },
  ])
})

void t.test('nbdsh asks for both contexts at once', async (t) => {
  const uri = await serveHalf(t)
  const program = `
found = {}
def extents(context, offset, entries, error):
    assert offset == ${(LOST_BLOCK - 1) * BLOCK}
    found[context] = entries
h.block_status(${2 * BLOCK}, ${(LOST_BLOCK - 1) * BLOCK}, extents)
assert found == {
    'base:allocation': [${BLOCK}, 3, ${BLOCK}, 0],
    'nbd-remap:state': [${BLOCK}, 0, 1024, 1, 1024, 2, 2048, 1],
}, found
h.block_status(${2 * BLOCK}, ${(LOST_BLOCK - 1) * BLOCK}, extents, nbd.CMD_FLAG_REQ_ONE)
assert found == {'base:allocation': [${BLOCK}, 3], 'nbd-remap:state': [${BLOCK}, 0]}, found
h.shutdown()`
  const setUp = `h.add_meta_context('base:allocation')\nh.add_meta_context('nbd-remap:state')`
  t.equal(await nbdsh(uri, program, setUp), '')
})

void t.test('qemu-io and nbdsh zero fast or not at all', async (t) => {
  const { path, memory } = await servePair(t, SIZE)
  const uri = `nbd+unix:///disk?socket=${path}`
  await runOk('qemu-io', '-f', 'raw', '-c', `write -z -u -n ${256 * KiB} ${64 * KiB}`, uri)
  t.ok(memory.data.subarray(256 * KiB, 320 * KiB).equals(Buffer.alloc(64 * KiB)))
  const program = `
import errno
try:
    h.zero(${BLOCK}, ${REMAPPED_BLOCK * BLOCK}, nbd.CMD_FLAG_FAST_ZERO)
except nbd.Error as error:
    assert error.errnum == errno.ENOTSUP, error
else:
    raise AssertionError('succeeded')
h.shutdown()`
  t.equal(await nbdsh(uri, program), '')
})

void t.test('a sparse disk stays sparse through the server, and shows its wounds', async (t) => {
  const folder = newFolder(t)
  const main = join(folder, 'main.img')
  const fd = openSync(main, 'w')
  ftruncateSync(fd, 64 * MiB)
  for (const start of [0, 20 * MiB]) writeSync(fd, Buffer.alloc(MiB, 'data'), 0, MiB, start)
  closeSync(fd)
  await using server = await RemapServer.start({
    program: PROGRAM,
    directory: folder,
    main,
    spare: newSpare(folder),
    args: ['--create'],
  })
  const holes: [number, number][] = [
    [MiB, 0],
    [19 * MiB, 3],
    [MiB, 0],
    [43 * MiB, 3],
  ]
  t.same(await mapOf(server.uri), holes)
  const copy = join(folder, 'copy.img')
  await runOk('nbdcopy', server.uri, copy)
  t.equal((await run('cmp', main, copy)).status, 0)
  t.ok(statSync(copy).blocks * 512 < 4 * MiB, 'nbdcopy skipped the holes')
  await runOk('qemu-io', '-f', 'raw', '-c', 'write 30M 1M', server.uri)
  t.same((await mapOf(server.uri)).slice(2), [
    [MiB, 0],
    [9 * MiB, 3],
    [MiB, 0],
    [33 * MiB, 3],
  ])
})

void t.test('blocks that go bad under the served disk are seen in its state', async (t) => {
  const folder = newFolder(t)
  const main = join(folder, 'main.img')
  const fd = openSync(main, 'w')
  writeSync(fd, Buffer.alloc(8 * MiB, 'x'))
  closeSync(fd)
  await using daemon = await StorageDaemon.start({ directory: folder, disks: [{ name: 'main', file: main }] })
  await using server = await RemapServer.start({
    program: PROGRAM,
    directory: folder,
    main: daemon.uri('main'),
    spare: newSpare(folder),
    args: ['--create'],
  })
  t.same(await mapOf(server.uri), [[8 * MiB, 0]], 'nothing is known of what an upstream has allocated')
  t.same(await mapOf(server.uri, 'nbd-remap:state'), [[8 * MiB, 0]])
  await new FaultInjector(daemon, 'main').set([
    { sector: sector((2 * MiB + 8 * KiB) / 512), operation: 'write' },
    { sector: sector((3 * MiB) / 512 + 1), operation: 'read' },
  ])
  await runOk('qemu-io', '-f', 'raw', '-c', 'write -P 1 2M 1M', '-c', 'read -P 1 2M 1M', server.uri)
  t.not((await run('qemu-io', '-f', 'raw', '-c', 'read 3M 4k', server.uri)).status, 0)
  t.same(await mapOf(server.uri, 'nbd-remap:state'), [
    [2 * MiB + 8 * KiB, 0],
    [4 * KiB, 1],
    [MiB - 12 * KiB, 0],
    [512, 1],
    [512, 2],
    [3 * KiB, 1],
    [5 * MiB - 4 * KiB, 0],
  ])
})
