/**
 * A machine writes all the time, each block once and each with content of its own, while its disk goes behind nbd-remap and
 * comes off again; in the end every block that it wrote is where it should be. One machine for all, since boots are slow.
 */
import { open } from 'node:fs/promises'
import path from 'node:path'
import t, { type Test } from 'tap'
import { FaultInjector, guestImage, Machine, StorageDaemon, type Guest } from '../../qemu/index.js'
import { RemapServer } from '../../qemu/remap-server.js'
import { MiB, sector } from '../../src/util/units.js'
import { cli, fails, PROGRAM } from '../support/cli.js'
import { run } from '../support/tools.js'
import { imageFile, socketDirectory } from '../support/upstream-servers.js'

// A boot under emulation takes seconds, and on a busy machine many.
t.setTimeout(300_000)

const DISK_SIZE = 64 * MiB
const WRITTEN = 64 * 1024
const BLOCKS_MAX = 400

/** Direct writes, one block after the other, until told to stop; errors and the number of the next block are kept in files. */
const WRITER = `
for disk in /sys/block/vd*; do [ "$(cat $disk/serial)" = SERIAL ] && name=$(basename $disk); done
i=0
while [ ! -e /tmp/stop ] && [ $i -lt ${BLOCKS_MAX} ]; do
  yes "block $i" | head -c ${WRITTEN} > /tmp/block
  dd if=/tmp/block of=/dev/$name bs=${WRITTEN} seek=$i oflag=direct 2>> /tmp/errors || echo failed >> /tmp/failed
  i=$((i + 1))
  echo $i > /tmp/next
done`

class Writer {
  readonly #guest: Guest
  readonly #written: Promise<unknown>

  /** @param serial of the disk: which one is vda depends on which one the guest's kernel was quicker to find */
  constructor(guest: Guest, serial: string) {
    this.#guest = guest
    const script = WRITER.replaceAll('SERIAL', serial)
    this.#written = guest
      .check(`rm -f /tmp/stop /tmp/failed /tmp/next; (${script}\ntouch /tmp/done) > /dev/null 2>&1 &`)
      .then(() => this.#more(0))
  }

  /** Resolves when it has written some blocks more than now. */
  async more(): Promise<number> {
    await this.#written
    return this.#more(Number(await this.#guest.check('cat /tmp/next')) + 3)
  }

  async #more(than: number): Promise<number> {
    const wait = `while [ "$(cat /tmp/next 2> /dev/null || echo 0)" -le ${than} ] && [ ! -e /tmp/done ]; do sleep 0.1; done; cat /tmp/next`
    return Number(await this.#guest.check(wait))
  }

  /** @returns how many blocks it has written */
  async stop(t: Test): Promise<number> {
    const stdout = await this.#guest.check(
      'touch /tmp/stop; while [ ! -e /tmp/done ]; do sleep 0.1; done; rm /tmp/done; sync; cat /tmp/next; cat /tmp/failed 2> /dev/null || true',
    )
    const [count = '', ...failed] = stdout.trim().split('\n')
    t.same(failed, [], 'no write of the machine failed')
    return Number(count)
  }
}

/** Every block, on the disk itself. */
async function assertWritten(t: Test, image: string, count: number): Promise<void> {
  const file = await open(image, 'r')
  try {
    const wrong: number[] = []
    for (let block = 0; block < count; block++) {
      const { buffer } = await file.read(Buffer.alloc(WRITTEN), 0, WRITTEN, block * WRITTEN)
      const line = `block ${block}\n`
      if (!buffer.equals(Buffer.from(line.repeat(Math.ceil(WRITTEN / line.length))).subarray(0, WRITTEN)))
        wrong.push(block)
    }
    t.same(wrong, [], `all ${count} blocks are on the disk as they were written`)
  } finally {
    await file.close()
  }
}

void t.test('disks go behind the remapper and come off again while the machine writes to them', async (t) => {
  const directory = await socketDirectory(t)
  process.env['NBD_REMAP_RUNTIME_DIR'] = path.join(directory, 'run')
  const [plain, upstream, drive] = [
    await imageFile(t, DISK_SIZE),
    await imageFile(t, DISK_SIZE),
    await imageFile(t, DISK_SIZE),
  ]
  // Where something has failed they still run.
  for (const name of ['disk-plain', 'old'])
    t.teardown(() => run(process.execPath, PROGRAM, 'dmsetup', 'remove', '--force', name))
  await using daemon = await StorageDaemon.start({ directory, disks: [{ name: 'main', file: upstream }] })
  await using machine = await Machine.start({
    directory,
    ...(await guestImage()),
    drives: [
      { nodeName: 'plain', source: { file: plain }, device: { serial: 'plain' } },
      {
        nodeName: 'far',
        source: { nbd: { path: daemon.socketPath, exportName: 'main', reconnectDelaySeconds: 30 } },
        device: { serial: 'far' },
      },
    ],
    args: [
      ...['-object', 'iothread,id=io', '-drive', `file=${drive},if=none,id=old,format=raw`],
      ...['-device', 'virtio-blk-pci,drive=old,iothread=io,serial=old'],
    ],
  })
  const guest = await machine.guest()
  const vm = ['--qmp', machine.monitorSocket]
  const status = (): Promise<unknown> => machine.qmp.execute('query-status')

  await t.test('a file, with a server that is started for it', async (t) => {
    const spare = await imageFile(t, 16 * MiB)
    const attachArgs = ['attach-vm', ...vm, '--device', 'disk-plain', '--spare', spare]
    const writer = new Writer(guest, 'plain')
    await writer.more()
    const rehearsal = await cli(t, ...attachArgs, '--create', '--dry-run')
    t.match(
      rehearsal.stdout,
      /^# nbd-remap serve .*\n\{"execute":"blockdev-add".*\n\{"execute":"stop"\}\n\{"execute":"qom-set".*\n\{"execute":"cont"\}\n/,
    )
    await fails(t, 3, /not formatted|blank/, attachArgs)
    t.match(await status(), { status: 'running' })
    await fails(t, 3, /has no disk 'vd7': it has old, disk-plain, disk-far$/, [
      'attach-vm',
      ...vm,
      '--device',
      'vd7',
      '--spare',
      spare,
    ])
    await writer.more()

    const attached = await cli(t, ...attachArgs, '--create', '--json')
    t.equal(attached.code, 0, attached.stderr)
    const { control, notes } = JSON.parse(attached.stdout) as { control: string; notes: unknown[] }
    t.same(notes, [])
    await writer.more()
    await fails(t, 3, /is behind this server already/, [
      'attach-vm',
      ...vm,
      '--device',
      'disk-plain',
      '--control',
      control,
    ])
    t.match((await cli(t, 'status', '--control', control)).stdout, /clients: +1/)

    const detached = await cli(t, 'detach-vm', ...vm, '--device', 'disk-plain', '--control', control, '--json')
    t.equal(detached.code, 0, detached.stderr)
    t.match(JSON.parse(detached.stdout), { disk: plain, 'server-stopped': true, notes: [] })
    await writer.more()
    const count = await writer.stop(t)
    await assertWritten(t, plain, count)
    t.match((await cli(t, 'dmsetup', 'remove', 'disk-plain')).stderr, /does not exist|^$/)
  })

  await t.test('an export, with a server that runs; blocks are remapped in between', async (t) => {
    const spare = await imageFile(t, 16 * MiB)
    await using server = await RemapServer.start({
      program: PROGRAM,
      directory,
      main: daemon.uri('main'),
      spare,
      args: ['--create'],
    })
    const far = [...vm, '--device', 'disk-far', '--control', server.controlPath]
    await fails(t, 3, /is not behind this server/, ['detach-vm', ...far])
    await fails(t, 3, /the server's main disk is/, [
      'attach-vm',
      ...vm,
      '--device',
      'disk-plain',
      '--control',
      server.controlPath,
    ])
    const writer = new Writer(guest, 'far')
    await writer.more()
    t.equal((await cli(t, 'attach-vm', ...far)).code, 0)
    const faults = new FaultInjector(daemon, 'main')
    const remaps = async (): Promise<number> => (await server.ask<{ remaps: number }>('query-remap-table')).remaps
    let bad = 0
    for (let reached = await writer.more(); (await remaps()) === 0; reached = await writer.more()) {
      // The machine may have been past it before the disk knew of it: then one further on has to do.
      if (reached <= bad) continue
      bad = reached + 5
      await faults.set([{ sector: sector((bad * WRITTEN) / 512), operation: 'write' }])
    }

    await fails(t, 3, /1 blocks of the disk are remapped.*--clear.*--mirror-to/, ['detach-vm', ...far])
    await fails(t, 3, /1 blocks .* that the main disk does not take back/, ['detach-vm', ...far, '--clear'])
    const copy = path.join(directory, 'healthy.img')
    const mirrored = await cli(t, 'detach-vm', ...far, '--mirror-to', copy, '--keep-server', '--json')
    t.equal(mirrored.code, 0, mirrored.stderr)
    t.match(JSON.parse(mirrored.stdout), { disk: copy, 'server-stopped': false })
    await writer.more()
    await assertWritten(t, copy, await writer.stop(t))
    await fails(t, 3, /is not blank/, ['detach-vm', ...far, '--mirror-to', copy])
  })

  await t.test('an old -drive without a name, in an I/O thread', async (t) => {
    const spare = await imageFile(t, 16 * MiB)
    const writer = new Writer(guest, 'old')
    await writer.more()
    const attached = await cli(t, 'attach-vm', ...vm, '--device', 'old', '--spare', spare, '--create')
    t.equal(attached.code, 0, attached.stderr)
    await writer.more()
    const control = path.join(directory, 'run/old.qmp')
    t.equal((await cli(t, 'detach-vm', ...vm, '--device', 'old', '--control', control)).code, 0)
    await writer.more()
    await assertWritten(t, drive, await writer.stop(t))
  })

  guest.close()
  await machine.quit()
})
