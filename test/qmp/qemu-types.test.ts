import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import t from 'tap'
import { qemu } from '../../src/qmp/index.js'
import { ROOT } from '../support/documents.js'
import { qemuMonitor } from '../support/qemu-monitor.js'

const versionOf = (text: string): string | undefined => /from QEMU ([\d.]+)/.exec(text)?.[1]

void t.test('the types are those that QEMU tells', (t) => {
  const written = readFileSync(path.join(ROOT, 'src/qmp/qemu-types.ts'), 'utf8')
  const script = path.join(ROOT, 'scripts/qemu-types.mjs')
  const { stdout, status } = spawnSync(process.execPath, [script, '--print'], { encoding: 'utf8' })
  t.equal(status, 0, 'the QEMU of this machine has all commands that are listed')
  // Another version has other members, and is as good.
  if (versionOf(stdout) === versionOf(written)) t.ok(stdout === written, 'run scripts/qemu-types.mjs')
  t.end()
})

void t.test('typed commands are commands, and the compiler knows what they take and return', async (t) => {
  await using client = await qemuMonitor(t)
  const typed = qemu(client)
  await typed.execute('blockdev-add', { driver: 'null-co', 'node-name': 'n', size: 1048576 })
  const [node] = await typed.execute('query-named-block-nodes', { flat: true })
  const name: string | undefined = node?.['node-name']
  t.equal(name, 'n')
  const { running } = await typed.execute('query-status')
  t.equal(running satisfies boolean, false)
  await typed.execute('blockdev-add', {
    driver: 'blkdebug',
    'node-name': 'b',
    image: { driver: 'null-co' },
    'inject-error': [{ event: 'none', iotype: 'read', errno: 5 }],
  })
  await t.rejects(
    // @ts-expect-error: a file has a name
    typed.execute('blockdev-add', { driver: 'file' }),
    /filename/,
  )
  await t.rejects(
    // @ts-expect-error: no driver has that name
    typed.execute('blockdev-add', { driver: 'nope' }),
    /nope/,
  )
  await t.rejects(
    // @ts-expect-error: takes a node
    typed.execute('blockdev-del'),
    /node-name/,
  )
})
