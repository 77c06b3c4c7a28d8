/**
 * A file system on a disk whose blocks go bad while it is written to: as it is, and with nbd-remap in between.
 *
 *   node --test examples/file-system.test.mjs
 */
import assert from 'node:assert/strict'
import test from 'node:test'
import { lab } from 'nbd-remap/lab'

const FILES = 60

/** Writes and fsyncs files in a folder of the guest, and remembers what is in those of which the guest was told that they are safe. */
const write = (folder) => `
  cd ${folder}
  for n in $(seq ${FILES}); do
    dd if=/dev/urandom of=$n bs=256k count=1 conv=fsync 2>/dev/null && md5sum $n
  done > /tmp/sums
  wc -l < /tmp/sums
`
const reread = (folder) => `
  echo 3 > /proc/sys/vm/drop_caches
  cd ${folder} && md5sum -c /tmp/sums > /dev/null
`

test('a file system on a disk whose blocks go bad', { timeout: 600_000 }, async (t) => {
  const stage = await lab({
    disks: {
      main: { size: '128M', via: 'storage-daemon' },
      spare: { size: '64M' },
      bare: { size: '128M', via: 'storage-daemon' },
    },
    server: { main: 'main', spares: ['spare'] },
    // vda is the server's disk, vdb the failing disk alone.
    machines: { guest: { drives: [{ disk: 'server' }, { disk: 'bare' }] } },
    ...(process.env.SEED && { seed: process.env.SEED }),
  })
  t.after(() => stage.close())
  t.diagnostic(`SEED=${stage.seed} repeats this run`)
  /** With another exit status than 0 the test ends here. */
  const guest = async (run) => (await stage.guestCommand({ run, within: '300s' })).stdout
  for (const disk of ['vda', 'vdb'])
    await guest(`mkfs.ext4 -q -F /dev/${disk} && mkdir -p /${disk} && mount /dev/${disk} /${disk}`)
  for (const on of ['main', 'bare']) await stage.fault({ on, clusters: 400, operations: ['write'] })

  await t.test('alone, it loses what was written', async () => {
    assert.ok(Number(await guest(write('/vdb'))) < FILES, `all ${FILES} files could be written: no block was bad`)
    assert.match(await guest('dmesg'), /I\/O error, dev vdb/)
  })

  await t.test('behind nbd-remap it loses nothing', async () => {
    assert.equal(Number(await guest(write('/vda'))), FILES, 'every fsync succeeded')
    await guest(reread('/vda'))
    await guest('umount /vda && e2fsck -fn /dev/vda')
    const { remaps } = await stage.qmp({ to: 'server', execute: 'query-remap-table' })
    assert.ok(remaps > 0)
    t.diagnostic(`${remaps} blocks are on the spare`)
  })
})
