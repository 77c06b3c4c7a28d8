/** The export as a block device of the kernel: what `nbd-remap attach` calls, with a real nbd-client and the kernel's driver, in a guest. */
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { FaultInjector, guestImage, Machine, StorageDaemon } from '../../qemu/index.js'
import { MiB, sector } from '../../src/util/units.js'
import { newFolder, newSpare, PROGRAM, Serve } from '../support/cli.js'
import { ROOT } from '../support/documents.js'
import { requireTool, runOk } from '../support/tools.js'
import { imageFile } from '../support/upstream-servers.js'

t.setTimeout(300_000)

const CLIENT = '/usr/sbin/nbd-client'

interface ToolsImage {
  readonly image: string
  remove(): void
}

async function toolsImage(t: Test, programs: readonly string[]): Promise<string> {
  const example = (await import(join(ROOT, 'examples/tools-image.mjs'))) as {
    toolsImage(programs: readonly string[]): ToolsImage
  }
  const tools = example.toolsImage(programs)
  t.teardown(() => {
    tools.remove()
  })
  return tools.image
}

/** What `attach` would call nbd-client with. */
async function attachArguments(t: Test, uri: string): Promise<string> {
  const folder = newFolder(t)
  const record = join(folder, 'arguments')
  writeFileSync(join(folder, 'nbd-client'), `#!/bin/sh\necho "$*" > ${record}\n`)
  chmodSync(join(folder, 'nbd-client'), 0o755)
  const path = `PATH=${folder}:${process.env['PATH'] ?? ''}`
  await runOk('env', path, process.execPath, PROGRAM, 'attach', uri, '--device', '/dev/null')
  return readFileSync(record, 'utf8').trim().replace('/dev/null', '/dev/nbd0')
}

void t.test(
  'a guest has the export as a block device of its kernel, with a file system, while blocks go bad',
  async (t) => {
    requireTool(CLIENT)
    const folder = newFolder(t)
    const file = await imageFile(t, 64 * MiB)
    await using daemon = await StorageDaemon.start({ directory: folder, disks: [{ name: 'main', file }] })
    const server = await Serve.start(
      t,
      { folder, main: daemon.uri('main'), spare: newSpare(folder, 'spare.img', 32 * MiB) },
      [...['--create', '--name', 'disk', '--listen', '127.0.0.1:0']],
    )
    const { port } = new URL(server.uri)
    // QEMU's own network has the host's loopback at 10.0.2.2.
    const args = ['-netdev', 'user,id=net0', '-device', 'virtio-net-pci,netdev=net0']
    const drives = [{ nodeName: 'tools', source: { file: await toolsImage(t, [CLIENT]) } }]
    await using machine = await Machine.start({ directory: folder, ...(await guestImage()), drives, args })
    const guest = await machine.guest()
    t.teardown(() => {
      guest.close()
    })
    const does = (command: string): Promise<string> => guest.check(command, { timeoutMs: 120_000 })
    await does('mkdir -p /tools && mount -o ro /dev/vda /tools')
    await does('while read -r module; do insmod "$module"; done < /etc/modules-at-hand')
    await does('ifconfig lo 127.0.0.1 up && ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up')
    await does(`/tools/nbd-client ${await attachArguments(t, `nbd://10.0.2.2:${port}/disk`)}`)
    t.equal((await does('cat /sys/block/nbd0/size')).trim(), String((64 * MiB) / 512))
    await does('mkfs.ext4 -q -F /dev/nbd0 && mount /dev/nbd0 /mnt')

    const blocks = Array.from({ length: 400 }, (_, n) => ({
      sector: sector(16_384 + n * 160),
      operation: 'write' as const,
    }))
    await new FaultInjector(daemon, 'main').set(blocks)
    await does('for n in $(seq 16); do dd if=/dev/urandom of=/mnt/$n bs=1M count=1 conv=fsync; done 2>/dev/null')
    await does('cd /mnt && md5sum * 2>/dev/null > /tmp/sums; echo 3 > /proc/sys/vm/drop_caches; md5sum -c /tmp/sums')
    const { remaps } = await server.ask<{ remaps: number }>('query-remap-table')
    t.ok(remaps > 0, `${remaps} blocks were remapped`)
    t.notMatch(await guest.kernelLog(), /I\/O error/)
    await does('umount /mnt && e2fsck -fn /dev/nbd0')
    await does('/tools/nbd-client -d /dev/nbd0')
    t.match(await server.end(), { code: 0 })
  },
)
