/**
 * An independent witness: a guest works on an ext4 file system over the remapper, and QEMU's `blklogwrites` writes down what
 * reaches the disks. Main and spare are two parts of one image, so that there is one log and one order for both. Replayed
 * to many moments, with what was not flushed kept or lost, the pair is opened and verified, and its file system checked.
 */
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import t, { type Test } from 'tap'
import { guestImage, Machine } from '../../qemu/index.js'
import { DaemonProcess, READY_TIMEOUT_MS } from '../../qemu/process.js'
import { QmpListener } from '../../qemu/qmp-listener.js'
import { RemapServer } from '../../qemu/remap-server.js'
import { MemoryDevice } from '../../src/device/memory.js'
import { Pair } from '../../src/remap/pair.js'
import { HEADER_OFFSETS } from '../../src/spare/format.js'
import { verifySpare } from '../../src/spare/verify.js'
import { silentLog } from '../../src/util/log.js'
import { Random } from '../../src/util/random.js'
import { MiB } from '../../src/util/units.js'
import { PROGRAM } from '../support/bench.js'
import { asDisk, POLICY } from '../support/rig.js'
import { run, runOk } from '../support/tools.js'
import { parseWriteLog, type LogEntry } from './write-log.js'

t.setTimeout(300_000)

const MAIN_SIZE = 16 * MiB
const SPARE_SIZE = 12 * MiB
const BLOCK = 4096
const BAD_BLOCKS = 200
const POINTS = 120

/** One image with both disks, a fault injector and the log above it, and above that two disks again. */
function daemonArgs(directory: string, random: Random): string[] {
  const bad = random.sample(BAD_BLOCKS, MAIN_SIZE / BLOCK).map((block) => (block * BLOCK) / 512)
  const rules = bad.flatMap((sector) =>
    ['write', 'write-zeroes'].map((iotype) => ({ event: 'none', sector, iotype, errno: 5 })),
  )
  const part = (name: string, offset: number, size: number) => ({
    driver: 'raw',
    'node-name': name,
    file: 'logged',
    offset,
    size,
  })
  const file = (name: string) => ({ driver: 'file', 'node-name': name, filename: path.join(directory, name) })
  const nodes = [
    file('image'),
    file('log'),
    { driver: 'blkdebug', 'node-name': 'faulty', image: 'image', 'inject-error': rules },
    { driver: 'blklogwrites', 'node-name': 'logged', file: 'faulty', log: 'log' },
    part('main', 0, MAIN_SIZE),
    part('spare', MAIN_SIZE, SPARE_SIZE),
  ]
  const exports = ['main', 'spare'].map((name) => ({ type: 'nbd', id: name, 'node-name': name, name, writable: true }))
  return [
    ...nodes.flatMap((node) => ['--blockdev', JSON.stringify(node)]),
    '--nbd-server',
    JSON.stringify({ addr: { type: 'unix', path: path.join(directory, 'nbd.sock') } }),
    ...exports.flatMap((entry) => ['--export', JSON.stringify(entry)]),
    '--chardev',
    `socket,id=qmp,path=${path.join(directory, 'daemon.qmp')}`,
    '--monitor',
    'chardev=qmp',
  ]
}

async function startDaemon(t: Test, directory: string, random: Random): Promise<() => Promise<void>> {
  for (const [name, size] of Object.entries({ image: MAIN_SIZE + SPARE_SIZE, log: 0 })) {
    const file = await open(path.join(directory, name), 'w')
    await file.truncate(size)
    await file.close()
  }
  const listener = await QmpListener.open(path.join(directory, 'daemon.qmp'))
  const daemon = await DaemonProcess.start({ program: 'qemu-storage-daemon', args: daemonArgs(directory, random) })
  t.teardown(() => daemon.kill('SIGKILL'))
  const qmp = await listener.client(daemon, READY_TIMEOUT_MS)
  listener.close()
  return async () => {
    await qmp.execute('quit').catch(() => undefined)
    await qmp.close()
    await daemon.close()
  }
}

const WORK = `
mount -t ext4 /dev/vda /mnt && cd /mnt || exit
for round in 1 2 3 4 5 6; do
  mkdir d$round
  for n in 1 2 3 4 5; do dd if=/dev/urandom of=d$round/$n bs=20k count=$n 2>/dev/null || exit; done
  sync
  rm -r d$((round - 2)) 2>/dev/null
  echo $round >> log && sync
done`

/** @returns the log, and how much of it there was when the file system had been mounted */
async function record(t: Test, random: Random): Promise<{ entries: LogEntry[]; served: number; mounted: number }> {
  const directory = await mkdtemp(path.join(tmpdir(), 'wlog-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  const quit = await startDaemon(t, directory, random)
  const uri = (name: string): string => `nbd+unix:///${name}?socket=${path.join(directory, 'nbd.sock')}`
  const server = await RemapServer.start({
    program: PROGRAM,
    directory,
    main: uri('main'),
    spare: uri('spare'),
    args: ['--create'],
  })
  t.teardown(() => server.killAll())
  const machine = await Machine.start({
    directory,
    ...(await guestImage()),
    drives: [{ nodeName: 'disk', source: { nbd: { path: server.socketPath } } }],
  })
  t.teardown(() => machine.close())
  const guest = await machine.guest()
  await guest.check('mkfs.ext4 -q -F -b 4096 /dev/vda && sync')
  const sizeAfterMkfs = (await readFile(path.join(directory, 'log'))).length
  await guest.check(WORK)
  guest.close()
  await machine.kill()
  const { remaps } = await server.ask<{ remaps: unknown[] }>('query-remaps')
  t.ok(remaps.length > 0, `${remaps.length} runs of remaps were made`)
  await server.killAll()
  await quit()
  const log = await readFile(path.join(directory, 'log'))
  const entries = parseWriteLog(log)
  const headers = entries.findLastIndex(({ offset }) => offset === MAIN_SIZE + (HEADER_OFFSETS[4] ?? 0))
  let mounted = 0
  for (let size = 512; size < sizeAfterMkfs && mounted < entries.length; mounted++) {
    size += 512 + (entries[mounted]?.data.length ?? 0)
  }
  return { entries, served: Math.min(headers + 1, mounted), mounted }
}

function apply(image: Buffer, { offset, data }: LogEntry): void {
  data.copy(image, offset)
}

/** Opens what is in the image. @returns the file system as a guest would read it */
async function openImage(image: Buffer): Promise<{ problems: readonly string[]; content: Buffer }> {
  const main = new MemoryDevice(MAIN_SIZE, 'main')
  const spare = new MemoryDevice(SPARE_SIZE, 'spare')
  image.copy(main.bytes, 0, 0, MAIN_SIZE)
  image.copy(spare.bytes, 0, MAIN_SIZE)
  const disks = { main: asDisk(main, 'main'), spares: [asDisk(spare, 'spare')] }
  const options = { policy: POLICY, acceptMain: true, emit: () => undefined, log: silentLog }
  const pair = await Pair.open(disks, options)
  const content = Buffer.alloc(MAIN_SIZE)
  await pair.target.read(0, content)
  return { problems: (await verifySpare(spare)).problems, content }
}

/** Replays the journal of the file system, then looks for anything wrong. @returns what it said; `undefined`: all is well */
async function checkFileSystem(file: string, content: Buffer): Promise<string | undefined> {
  await writeFile(file, content)
  await run('/sbin/e2fsck', '-y', '-E', 'journal_only', file)
  const { status, stdout, stderr } = await run('/sbin/e2fsck', '-f', '-n', file)
  return status === 0 ? undefined : `e2fsck exited with ${status ?? 'a signal'}: ${stdout}${stderr}`
}

void t.test('replayed to any moment, the pair opens and the file system over it is sound', async (t) => {
  const random = new Random(process.env['SEED'])
  t.comment(`SEED=${random.seed}`)
  await runOk('/sbin/e2fsck', '-V')
  const { entries, served, mounted } = await record(t, random)
  t.comment(`${entries.length} entries, served from ${served}, mounted from ${mounted}`)
  const draw = (from: number, to: number): number[] =>
    random.sample(Math.min(POINTS / 2, to - from), to - from).map((n) => from + n)
  const points = new Set([...draw(served, mounted), ...draw(mounted, entries.length)])
  t.ok(points.size >= 100, `${points.size} moments`)
  const directory = await mkdtemp(path.join(tmpdir(), 'wlog-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  const durable = Buffer.alloc(MAIN_SIZE + SPARE_SIZE)
  let pending: LogEntry[] = []
  let [checked, failed] = [0, 0]
  for (const [n, entry] of entries.entries()) {
    pending.push(entry)
    if (entry.flush) {
      for (const write of pending) apply(durable, write)
      pending = []
    }
    if (!points.has(n)) continue
    const image = Buffer.from(durable)
    // What was not flushed is there, or gone, or there in part.
    const way = random.below(3)
    for (const write of pending) if (way === 0 || (way === 1 && random.below(2) === 0)) apply(image, write)
    const { problems, content } = await openImage(image)
    const isMounted = n >= mounted
    const complaint = isMounted ? await checkFileSystem(path.join(directory, 'fs.img'), content) : undefined
    checked += Number(isMounted)
    if (problems.length === 0 && complaint === undefined) continue
    failed++
    t.fail(`entry ${n}, way ${way}: ${[...problems, complaint ?? ''].join('; ')}`)
  }
  t.equal(failed, 0)
  t.ok(checked >= 50, `${checked} file systems checked`)
})
