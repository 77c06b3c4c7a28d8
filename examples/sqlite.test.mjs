/**
 * Does SQLite keep what it has committed, on a disk whose blocks go bad and whose server is killed in the middle? The same
 * database on the failing disk alone, for comparison. To test another program, put it in the place of sqlite3.
 *
 *   node --test examples/sqlite.test.mjs
 */
import assert from 'node:assert/strict'
import test from 'node:test'
import { lab } from 'nbd-remap/lab'
import { toolsImage } from './tools-image.mjs'

const COMMITS = 30

/** Prints a line for each commit that SQLite has reported as done, and ends at the first error. */
const transactions = (from, to) => `
  for n in $(seq ${from} ${to}); do
    echo "BEGIN; INSERT INTO data SELECT $n, hex(randomblob(20000)); COMMIT; SELECT 'committed ' || $n;"
  done | /tools/sqlite3 -bail -cmd 'PRAGMA synchronous=FULL' data.db
`
const committed = ({ stdout }) => stdout.match(/^committed/gm)?.length ?? 0

test('SQLite on a disk that goes bad', { timeout: 600_000 }, async (t) => {
  const tools = toolsImage(['/usr/bin/sqlite3'])
  t.after(tools.remove)
  const stage = await lab({
    disks: {
      main: { size: '32M', via: 'storage-daemon' },
      spare: { size: '64M' },
      bare: { size: '32M', via: 'storage-daemon' },
      tools: { image: tools.image },
    },
    server: { main: 'main', spares: ['spare'] },
    machines: {
      guest: { drives: [{ disk: 'server', reconnectDelay: '60s' }, { disk: 'bare' }, { disk: 'tools' }] },
    },
    ...(process.env.SEED && { seed: process.env.SEED }),
  })
  t.after(() => stage.close())
  t.diagnostic(`SEED=${stage.seed} repeats this run`)
  /** With another exit status than 0 the test ends here, unless any is as good. */
  const guest = (run, status = 0) => stage.guestCommand({ run, status, within: '300s' })
  await guest('mkdir -p /tools && mount -o ro /dev/vdc /tools')
  for (const disk of ['vda', 'vdb']) {
    await guest(`mkfs.ext4 -q -F /dev/${disk} && mkdir -p /${disk} && mount /dev/${disk} /${disk}`)
    await guest(`cd /${disk} && /tools/sqlite3 data.db 'CREATE TABLE data (n, text)' && sync`)
  }
  for (const on of ['main', 'bare']) await stage.fault({ on, clusters: 300, operations: ['write'] })

  await t.test('on the disk alone it ends with an error', async () => {
    const work = await guest(`cd /vdb && ${transactions(1, COMMITS)}`, 'any')
    assert.ok(committed(work) < COMMITS, 'no block was bad')
    assert.notEqual(work.status, 0)
    t.diagnostic(`${committed(work)} of ${COMMITS} commits, then: ${work.stderr.trim()}`)
  })

  await t.test('behind nbd-remap all is committed, and there', async () => {
    const before = await guest(`cd /vda && ${transactions(1, COMMITS / 2)}`)
    const after = guest(`cd /vda && ${transactions(COMMITS / 2 + 1, COMMITS)}`)
    await stage.kill({ what: 'server', part: 'worker', whileWriting: true })
    assert.equal(committed(before) + committed(await after), COMMITS)
    await guest('echo 3 > /proc/sys/vm/drop_caches')
    const { stdout } = await guest(
      `cd /vda && /tools/sqlite3 data.db 'PRAGMA integrity_check; SELECT count(*), sum(length(text)) FROM data'`,
    )
    assert.equal(stdout, `ok\n${COMMITS}|${COMMITS * 40_000}\n`)
    const { remaps } = await stage.qmp({ to: 'server', execute: 'query-remap-table' })
    assert.ok(remaps > 0)
    t.diagnostic(`${remaps} blocks are on the spare`)
  })
})
