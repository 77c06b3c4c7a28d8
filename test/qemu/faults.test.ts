/** A client of QEMU's own writes to a disk that goes bad beneath the export and gets well again. */

import { execFile } from 'node:child_process'
import { truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { BLKDEBUG_RULES_MAX, FaultInjector, LaunchError, StorageDaemon } from '../../qemu/index.js'
import { MiB, sector } from '../../src/util/units.js'
import { socketDirectory } from '../support/qmp-server.js'

async function start(t: Test): Promise<StorageDaemon> {
  const directory = await socketDirectory(t)
  const disks = ['main', 'spare'].map((name) => ({ name, file: path.join(directory, `${name}.img`) }))
  for (const { file } of disks) {
    await writeFile(file, '')
    await truncate(file, 8 * MiB)
  }
  const daemon = await StorageDaemon.start({ directory, disks })
  t.teardown(() => daemon.close())
  return daemon
}

/** What qemu-io says to these commands, or its complaint. */
async function io(uri: string, ...commands: string[]): Promise<string> {
  const args = ['-f', 'raw', '-t', 'none', ...commands.flatMap((command) => ['-c', command]), uri]
  const { stdout, stderr } = await promisify(execFile)('qemu-io', args).catch(
    (error: unknown) => error as { stdout: string; stderr: string },
  )
  return stdout + stderr
}

const OK = /wrote \d+\/\d+ bytes/
const FAILED = /write failed: Input\/output error/

void t.test('a bad sector fails the writes that touch it until it is cleared', async (t) => {
  const daemon = await start(t)
  const faults = new FaultInjector(daemon, 'main')
  t.match(await io(daemon.uri('main'), 'write 0 8M'), OK)
  await faults.set([{ sector: sector(2048), operation: 'write' }])
  t.match(await io(daemon.uri('main'), 'write 1M 4k'), FAILED)
  t.match(await io(daemon.uri('main'), 'write -z 1M 64k'), FAILED, 'writing zeroes is writing')
  t.match(await io(daemon.uri('main'), 'write 1020k 4k', 'write 1028k 4k'), OK, 'its neighbours are good')
  t.match(await io(daemon.uri('spare'), 'write 1M 4k'), OK, 'another disk is good')
  t.match(await io(daemon.uri('main'), 'read 1M 4k'), /read \d+\/\d+ bytes/)
  await faults.clear()
  t.match(await io(daemon.uri('main'), 'write 1M 4k'), OK)
  t.same(faults.rules, [])
})

void t.test('rules are added to those that hold, in the order of the calls', async (t) => {
  const daemon = await start(t)
  const faults = new FaultInjector(daemon, 'main')
  await Promise.all(
    Array.from({ length: 20 }, (_, n) => faults.add([{ sector: sector(n * 8), operation: n % 2 ? 'both' : 'write' }])),
  )
  t.same(
    faults.rules.map((rule) => rule.sector),
    Array.from({ length: 20 }, (_, n) => n * 8),
  )
  for (const n of [0, 1, 19]) t.match(await io(daemon.uri('main'), `write ${n * 4}k 4k`), FAILED)
  t.match(await io(daemon.uri('main'), 'write 80k 4k'), OK)
  const nodes = (await daemon.qmp.execute('query-named-block-nodes', { flat: true })) as { drv: string }[]
  t.equal(nodes.filter(({ drv }) => drv === 'blkdebug').length, 1, 'no old node stays behind')
})

void t.test('a rule with times is used up by that many failures', async (t) => {
  const daemon = await start(t)
  await new FaultInjector(daemon, 'main').set([{ sector: sector(8), operation: 'write', times: 2 }])
  t.match(await io(daemon.uri('main'), 'write 4k 4k'), FAILED)
  t.match(await io(daemon.uri('main'), 'write 4k 4k'), FAILED)
  t.match(await io(daemon.uri('main'), 'write 4k 4k'), OK)
})

void t.test('a rule without a sector fails every write and can be cleared all the same', async (t) => {
  const daemon = await start(t)
  const faults = new FaultInjector(daemon, 'main')
  await faults.set([{ operation: 'both', errno: 28 }])
  t.match(await io(daemon.uri('main'), 'write 0 4k'), /No space left/)
  await faults.clear()
  t.match(await io(daemon.uri('main'), 'write 0 4k'), OK)
})

void t.test('a read fails for a client without structured replies', async (t) => {
  const daemon = await start(t)
  await new FaultInjector(daemon, 'main').set([{ sector: sector(8), operation: 'read' }])
  const script = `
import nbd, sys
h = nbd.NBD()
h.set_request_structured_replies(False)
h.connect_uri(sys.argv[1])
h.pread(4096, 8192)
try:
    h.pread(512, 4096)
except nbd.Error as error:
    print(error.errno)
h.pread(512, 4608)
print("alive")`
  // Debian's own python3 has libnbd's module; another one on the PATH may not.
  const { stdout } = await promisify(execFile)('/usr/bin/python3', ['-c', script, daemon.uri('main')])
  t.equal(stdout, 'EIO\nalive\n')
})

void t.test('too many rules are refused, and the old ones hold on', async (t) => {
  const daemon = await start(t)
  const faults = new FaultInjector(daemon, 'main')
  await faults.set([{ sector: sector(0), operation: 'both' }])
  const rules = Array.from({ length: BLKDEBUG_RULES_MAX }, (_, n) => ({
    sector: sector(n),
    operation: 'both' as const,
  }))
  await t.rejects(faults.add(rules), RangeError)
  t.equal(faults.rules.length, 1)
  t.match(await io(daemon.uri('main'), 'write 0 4k'), FAILED)
  t.throws(() => new FaultInjector(daemon, 'other'), /no disk 'other'/)
})

void t.test('a storage daemon that cannot start says why', async (t) => {
  const directory = await socketDirectory(t)
  const missing = StorageDaemon.start({ directory, disks: [{ name: 'main', file: path.join(directory, 'no.img') }] })
  const error = await missing.catch((error: unknown) => error)
  t.ok(error instanceof LaunchError)
  t.match(error, {
    reason: /exited with code 1/,
    log: /no\.img.*No such file/,
    commandLine: /^qemu-storage-daemon --bl/,
  })
  await t.rejects(StorageDaemon.start({ directory, disks: [{ name: 'a/b', file: 'x' }] }), RangeError)
  const deep = path.join(directory, 'x'.repeat(100))
  await t.rejects(StorageDaemon.start({ directory: deep, disks: [] }), { message: /107 is the longest possible/ })
})

void t.test('kill is a power cut for the clients and the monitor', async (t) => {
  const daemon = await start(t)
  t.same(await daemon.kill(), { code: null, signal: 'SIGKILL' })
  await t.rejects(daemon.qmp.execute('query-version'))
})
