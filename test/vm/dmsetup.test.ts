/** A guest has its file system on a device of `dmsetup create`, while an operator adds and moves remaps under it. */
import t from 'tap'
import { guestImage, Machine } from '../../qemu/index.js'
import { MiB } from '../../src/util/units.js'
import { MANY_PROCESSES_TIMEOUT_MS, newFolder, newSpare } from '../support/cli.js'
import { Devices } from '../support/devices.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

const SIZE = 32 * MiB

void t.test('a mounted file system does not notice remaps that come and move', async (t) => {
  const devices = Devices.open(t)
  const folder = newFolder(t)
  const [main, spare] = [newSpare(folder, 'main.img', SIZE), newSpare(folder, 'spare.img', 2 * SIZE)]
  await devices.dmsetupOk('create', 'disk', '--table', `0 ${SIZE / 512} dm-remap-v4 ${main} ${spare}`)
  const nbd = { path: devices.path('disk', 'sock'), exportName: 'disk' }
  const machine = await Machine.start({
    directory: folder,
    ...(await guestImage()),
    drives: [{ nodeName: 'disk', source: { nbd } }],
  })
  t.teardown(() => machine.close())
  const guest = await machine.guest()
  t.teardown(() => {
    guest.close()
  })
  const inGuest = async (command: string): Promise<string> => {
    const { status, stdout, stderr } = await guest.run(command)
    t.equal(status, 0, `${command}: ${stderr}`)
    return stdout
  }
  await inGuest('mkfs.ext4 -q /dev/vda && mkdir -p /mnt/remap && mount /dev/vda /mnt/remap')
  await inGuest('dd if=/dev/urandom of=/mnt/remap/testfile bs=1M count=8 && sync')
  const before = await inGuest('md5sum /mnt/remap/testfile')
  for (const place of [0, 40_000]) {
    // The whole disk, under the mounted file system.
    await devices.dmsetupOk('message', 'disk', '0', `add_remap 0 ${place} ${SIZE / 512 / 2}`)
    await inGuest('echo 3 > /proc/sys/vm/drop_caches; cp /mnt/remap/testfile /mnt/remap/copy && sync')
    t.equal(await inGuest('echo 3 > /proc/sys/vm/drop_caches; md5sum /mnt/remap/testfile'), before)
    t.equal((await inGuest('md5sum /mnt/remap/copy')).split(' ')[0], before.split(' ')[0])
  }
  await inGuest('umount /mnt/remap && e2fsck -fn /dev/vda')
  t.match(await devices.dmsetup('remove', 'disk'), { status: 1, stderr: /in use by \d+ client/ })
  guest.close()
  await machine.close()
  await devices.dmsetupOk('remove', 'disk')
})
