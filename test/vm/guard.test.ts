/** A machine with werror=stop and rerror=stop, its server, and `nbd-remap guard` between them. One machine for all. */
import path from 'node:path'
import t, { type Test } from 'tap'
import { FaultInjector, guestImage, Machine, StorageDaemon } from '../../qemu/index.js'
import { RemapServer, type RemapServerOptions } from '../../qemu/remap-server.js'
import { NbdClient } from '../../src/nbd/client.js'
import { parseNbdUri } from '../../src/nbd/uri.js'
import { MiB, sector } from '../../src/util/units.js'
import { cli, Program, PROGRAM } from '../support/cli.js'
import { run } from '../support/tools.js'
import { imageFile, socketDirectory } from '../support/upstream-servers.js'

// A boot under emulation takes seconds, and on a busy machine many.
t.setTimeout(300_000)

/** Room for two blocks. */
const SMALL_SPARE = 8 * MiB + 2 * 4096 + 2 * 4096
const STOP = { werror: 'stop', rerror: 'stop' }
const COMMAND_TIMEOUT_MS = 120_000

interface Line {
  readonly kind: string
  readonly text: string
  readonly [member: string]: unknown
}

/** `nbd-remap guard --json`, and what it has said. */
class RunningGuard {
  readonly #program: Program

  constructor(t: Test, args: readonly string[]) {
    this.#program = new Program(t, ['guard', ...args, '--json'])
  }

  get lines(): Line[] {
    return this.#program.stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Line)
  }

  /** Waits for a line of this kind. */
  async says(kind: string): Promise<Line> {
    const find = (): Line | undefined => this.lines.find((line) => line.kind === kind)
    let found: Line | undefined
    await this.#program.until(() => (found = find()) !== undefined, `the guard says ${kind}`)
    return found ?? { kind, text: '' }
  }

  end(): Promise<unknown> {
    return this.#program.end()
  }
}

/** The server that attach-vm starts. */
class BackgroundServer implements AsyncDisposable {
  constructor(readonly name: string) {}

  async [Symbol.asyncDispose](): Promise<void> {
    await run(process.execPath, PROGRAM, 'dmsetup', 'remove', '--force', this.name)
  }
}

void t.test('a machine that an error has paused goes on when the error is gone, and no other does', async (t) => {
  const directory = await socketDirectory(t)
  process.env['NBD_REMAP_RUNTIME_DIR'] = path.join(directory, 'run')
  const main = await imageFile(t, 16 * MiB)
  await using daemon = await StorageDaemon.start({
    directory,
    disks: [
      { name: 'main', file: main },
      { name: 'bare', file: await imageFile(t, 16 * MiB) },
    ],
  })
  const faults = new FaultInjector(daemon, 'main')
  const [spare, another] = [await imageFile(t, SMALL_SPARE), await imageFile(t, 10 * MiB)]
  const options: RemapServerOptions = {
    ...{ program: PROGRAM, directory, main: daemon.uri('main'), spare },
    args: ['--create', '--on-exhausted', 'pause', '--read-retries', '0'],
  }
  let server = await RemapServer.start(options)
  t.teardown(() => server.stop())
  // After the machine, and before the disk of its server.
  await using bare = new BackgroundServer('bare')
  await using machine = await Machine.start({
    directory,
    ...(await guestImage()),
    drives: [
      { nodeName: 'disk', source: { nbd: { path: server.socketPath } }, device: { ...STOP, serial: 'disk' } },
      {
        nodeName: 'bare',
        source: { nbd: { path: daemon.socketPath, exportName: 'bare' } },
        device: { ...STOP, serial: 'bare' },
      },
    ],
  })
  const guest = await machine.guest()
  await guest.check('dd if=/dev/urandom of=/tmp/data bs=64k count=4')
  // Which one is vda depends on which one the kernel was quicker to find.
  await guest.check('for disk in /sys/block/vd*; do ln -s /dev/$(basename $disk) /tmp/$(cat $disk/serial); done')
  const both = ['--qmp', machine.monitorSocket, '--control', server.controlPath]
  const status = async (): Promise<string> => ((await machine.qmp.execute('query-status')) as { status: string }).status
  const resumes = machine.qmp.events('RESUME')

  await t.test('it was paused when it had no remapper yet: attached, it goes on', async (t) => {
    await new FaultInjector(daemon, 'bare').set([{ sector: sector(80), operation: 'write' }])
    using stops = machine.qmp.events('STOP')
    const writing = guest.run('dd if=/tmp/data of=/tmp/bare bs=64k oflag=direct', { timeoutMs: COMMAND_TIMEOUT_MS })
    await stops.next({ timeoutMs: COMMAND_TIMEOUT_MS })
    const device = ['--qmp', machine.monitorSocket, '--device', 'disk-bare', '--name', bare.name]
    const attached = await cli(t, 'attach-vm', ...device, '--spare', await imageFile(t, 10 * MiB), '--create')
    t.equal(attached.code, 0, attached.stderr)
    t.equal(await status(), 'io-error', 'attaching is no reason to go on')
    const control = path.join(directory, 'run/bare.qmp')
    const vm = ['--qmp', machine.monitorSocket, '--control', control]
    t.match(await cli(t, 'guard', ...vm, '--once', '--dry-run'), { code: 3, stdout: /would continue the machine/ })
    t.equal(await status(), 'io-error')
    t.match(await cli(t, 'guard', ...vm, '--once'), { code: 0, stdout: /continued .* the machine was continued/ })
    t.match(await writing, { status: 0 })
    t.match(await guest.run('head -c 262144 /tmp/bare | cmp - /tmp/data'), { status: 0 })
    t.match((await cli(t, 'status', '--control', control)).stdout, /^remaps: +1$/m)
    resumes.drain()
  })

  await t.test('somebody has stopped it: it is left alone', async (t) => {
    await machine.qmp.execute('stop')
    const once = await cli(t, 'guard', ...both, '--once')
    t.equal(once.code, 3)
    t.match(once.stdout, /left-alone .*somebody has stopped it/)
    t.equal(await status(), 'paused')
    await machine.qmp.execute('cont')
    t.match(await cli(t, 'guard', ...both, '--once'), { code: 0, stdout: /runs +the machine runs/ })
    resumes.drain()
  })

  await t.test('no spare block is free: it waits until one is', async (t) => {
    await faults.set([10, 20, 30, 40].map((block) => ({ sector: sector(block * 8), operation: 'write' as const })))
    const guard = new RunningGuard(t, both)
    await guard.says('runs')
    const writing = guest.run('dd if=/tmp/data of=/tmp/disk bs=64k oflag=direct', { timeoutMs: COMMAND_TIMEOUT_MS })
    t.match(await guard.says('error'), {
      device: 'disk-disk',
      text: /write of \d+ sectors from \d+ failed \(No space left on device\): a bad block found no free spare block/,
      cause: 'no-spare',
      pauses: true,
    })
    t.match(await guard.says('waiting'), {
      text: /the request needs 2 free spare blocks and finds 1 \(nbd-remap spare add\)/,
    })
    t.equal(await status(), 'io-error')
    t.match(
      await cli(t, 'guard', '--qmp', `${machine.monitorSocket}.nobody`, '--control', server.controlPath, '--once'),
      {
        code: 1,
        stderr: /QEMU cannot be asked/,
      },
    )
    t.same(resumes.drain(), [])
    t.equal((await cli(t, 'spare', 'add', '--control', server.controlPath, another)).code, 0)
    t.match(await guard.says('continued'), { text: /spare blocks are free/, attempt: 1 })
    t.match(await writing, { status: 0 })
    t.equal(guard.lines.filter(({ kind }) => kind === 'continued').length, 1)
    await guard.end()
    t.equal(resumes.drain().length, 1)
  })

  await t.test('lost content: it would fail again at once, until it is written anew', async (t) => {
    await faults.set([{ sector: sector(8000), operation: 'read' }])
    const guard = new RunningGuard(t, both)
    await guard.says('runs')
    const reading = guest.run('dd if=/tmp/disk of=/dev/null bs=4096 skip=1000 count=1 iflag=direct', {
      timeoutMs: COMMAND_TIMEOUT_MS,
    })
    t.match(await guard.says('waiting'), {
      text: /sector 8000 still cannot be read \(EIO\) \(give the server a replica/,
    })
    t.match(await cli(t, 'status', '--control', server.controlPath), { code: 0 })
    t.equal(await status(), 'io-error')
    t.same(resumes.drain(), [])
    const client = await NbdClient.connect(parseNbdUri(server.uri))
    await client.write(8000 * 512, [Buffer.alloc(4096, 'new')])
    await client.disconnect()
    t.match(await guard.says('continued'), { text: /sector 8000 can be read now/ })
    t.match(await reading, { status: 0 })
    await guard.end()
    t.equal(resumes.drain().length, 1)
  })

  await t.test('the server is killed: it waits until there is another one', async (t) => {
    const guard = new RunningGuard(t, both)
    await guard.says('runs')
    await server.killAll()
    const writing = guest.run('dd if=/tmp/data of=/tmp/disk bs=64k oflag=direct', { timeoutMs: COMMAND_TIMEOUT_MS })
    t.match(await guard.says('waiting'), { text: /the server does not answer/ })
    t.match(await guard.says('error'), { cause: 'connection' })
    t.equal(await status(), 'io-error')
    server = await RemapServer.start({ ...options, args: ['--on-exhausted', 'pause'] })
    t.match(await guard.says('continued'), { text: /the server is back/ })
    t.match(await writing, { status: 0 })
    await guard.end()
  })

  await t.test('QEMU will never connect again: the disk gets another connection', async (t) => {
    const guard = new RunningGuard(t, [...both, '--replace-node'])
    await guard.says('runs')
    await machine.qmp.execute('yank', { instances: [{ type: 'block-node', 'node-name': 'disk' }] })
    const writing = guest.run('dd if=/tmp/data of=/tmp/disk bs=64k oflag=direct', { timeoutMs: COMMAND_TIMEOUT_MS })
    await guard.says('replaced')
    await guard.says('continued')
    t.match(await writing, { status: 0 })
    t.match(await guest.run('head -c 262144 /tmp/disk | cmp - /tmp/data'), { status: 0 })
    await guard.end()
  })

  guest.close()
  await machine.quit()
})
