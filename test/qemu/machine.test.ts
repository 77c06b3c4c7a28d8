/** A virtual machine with the storage daemon beneath it, and faults between them. */

import { execFile } from 'node:child_process'
import { truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import {
  FaultInjector,
  guestImage,
  LaunchError,
  Machine,
  StorageDaemon,
  type MachineDrive,
  type MachineOptions,
} from '../../qemu/index.js'
import { QmpClient } from '../../src/qmp/index.js'
import { MiB, sector } from '../../src/util/units.js'
import { socketDirectory } from '../support/qmp-server.js'

const image = await guestImage()

void t.test('a guest on an NBD disk meets a bad sector and, after it is healed, none', async (t) => {
  const directory = await socketDirectory(t)
  const [main, local] = [path.join(directory, 'main.img'), path.join(directory, 'local.img')]
  for (const file of [main, local]) {
    await writeFile(file, '')
    await truncate(file, 16 * MiB)
  }
  await using storage = await StorageDaemon.start({ directory, disks: [{ name: 'main', file: main }] })
  const faults = new FaultInjector(storage, 'main')
  const drives: MachineDrive[] = [
    { nodeName: 'main', source: { nbd: { path: storage.socketPath, exportName: 'main', reconnectDelaySeconds: 5 } } },
    { nodeName: 'local', source: { file: local } },
  ]
  await using machine = await Machine.start({ directory, ...image, drives })
  const guest = await machine.guest()
  t.equal(await guest.check('cat /sys/block/vda/size /sys/block/vdb/size'), '32768\n32768\n')

  await faults.set([{ sector: sector(2048), operation: 'write' }])
  using errors = machine.qmp.events('BLOCK_IO_ERROR')
  const write = (disk: string) => guest.run(`dd if=/dev/zero of=/dev/${disk} bs=4k seek=256 count=1 oflag=direct`)
  t.match(await write('vda'), { status: 1, stderr: /Input\/output error/ })
  t.match(await errors.next({ timeoutMs: 5000 }), {
    data: { 'node-name': 'main', operation: 'write', action: 'report' },
  })
  t.match(await write('vdb'), { status: 0 })
  await faults.clear()
  t.match(await write('vda'), { status: 0 })

  t.match(await machine.consoleLog(), /I\/O error, dev vda, sector 2048/)
  {
    await using people = await QmpClient.connect(machine.monitorSocket)
    t.match(await people.execute('query-status'), { status: 'running' })
  }
  guest.close()
  t.same(await machine.quit(), { code: 0, signal: null })
})

void t.test('kill is a power cut, after which the same directory can be used again', async (t) => {
  const directory = await socketDirectory(t)
  const first = await Machine.start({ directory, ...image })
  t.same(await first.kill(), { code: null, signal: 'SIGKILL' })
  await t.rejects(first.qmp.execute('query-status'))
  t.same(await first.close(), { code: null, signal: 'SIGKILL' }, 'closing what is gone does nothing')
  await using second = await Machine.start({ directory, ...image })
  t.match(await second.qmp.execute('query-status'), { running: true })
  await t.rejects(Machine.start({ directory, ...image }), { name: 'SocketPathError', message: /already in use/ })
  t.match(await second.qmp.execute('query-status'), { running: true }, 'the second machine has not noticed')
})

void t.test('a launch that fails says why, with command line and exit code', async (t) => {
  const directory = await socketDirectory(t)
  const nbd = { path: path.join(directory, 'nobody.sock'), exportName: 'x' }
  const failing: [Partial<MachineOptions>, RegExp][] = [
    [{ drives: [{ nodeName: 'main', source: { nbd } }] }, /nobody\.sock.*No such file/],
    [{ drives: [{ nodeName: 'main', source: { file: path.join(directory, 'no.img') } }] }, /no\.img.*No such file/],
    [{ kernel: '/nowhere/vmlinuz' }, /could not (open|load) kernel/],
    [{ args: ['-no-such-option'] }, /-no-such-option: invalid option/],
  ]
  for (const [options, log] of failing) {
    const error = await Machine.start({ directory, ...image, ...options }).catch((error: unknown) => error)
    t.ok(error instanceof LaunchError, String(error))
    t.match(error, { reason: /^qemu-system-x86_64 exited with code 1 before/, exit: { code: 1 }, log })
    t.match(error, { commandLine: /^qemu-system-x86_64 -nodefaults/ })
  }
})

void t.test('a guest that dies while it boots is told with the end of its console', async (t) => {
  const directory = await socketDirectory(t)
  await using machine = await Machine.start({ directory, ...image, append: `${image.append} rdinit=/nothing` })
  const error = await machine.guest(30_000).catch((error: unknown) => error)
  t.ok(error instanceof LaunchError, String(error))
  t.match(error, { reason: /exited with code 0 before the guest's agent answered/, log: /console: [^]*Kernel panic/ })
})

void t.test('no machine is left behind', async (t) => {
  const { stdout } = await promisify(execFile)('ps', ['--ppid', String(process.pid), '-o', 'args='])
  t.notMatch(stdout, /qemu/)
})
