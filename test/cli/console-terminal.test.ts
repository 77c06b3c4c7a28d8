/** A session of `nbd-remap console` over QEMU and nbd-remap at once, on a pseudo-terminal. */
import { readFileSync, statSync } from 'node:fs'
import t, { type Test } from 'tap'
import { newPair, Serve } from '../support/cli.js'
import { qemuForConsole, separateHome } from '../support/console.js'
import { Terminal } from '../support/terminal.js'

const TAB = '\t'
const ENTER = '\r'
const CTRL_C = '\u0003'
const CTRL_D = '\u0004'
const CTRL_R = '\u0012'

const HISTORY = separateHome(t)

const start = (t: Test, ...args: string[]): Terminal => new Terminal(t, ['console', ...args], { columns: 100 })

void t.test('QEMU and nbd-remap at one prompt: completion, events, history', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const qemu = await qemuForConsole(t)
  const console = start(t, qemu.path, server.controlPath)
  await console.untilSeen(/^qemu: QEMU 7\..*\nnbd-remap: nbd-remap 0\.1\.0 at .*\n.*\nqemu>$/s)

  // A command, an argument, a node's name.
  console.type(`query-statu${TAB}`)
  await console.untilSeen(/^qemu> query-status *$/m)
  console.type(ENTER)
  await console.untilSeen(/"running": true \}\nqemu>$/)
  console.type(`blockdev-add dri${TAB}raw fil${TAB}=disk1 node-n${TAB}top siz${TAB}64K${ENTER}`)
  await console.untilSeen(/^qemu> blockdev-add driver=raw file=disk1 node-name=top size=64K\n\{\}\nqemu>$/m)
  console.type(`blockdev-del node-name=to${TAB}${ENTER}`)
  await console.untilSeen(/^qemu> blockdev-del node-name=top\n\{\}\nqemu>$/m)

  // What there is to choose from is listed, and the line stays.
  console.type(`blockdev-backup job-id=j sync=inc${TAB}device=disk${TAB}`)
  await console.untilSeen(/^disk0 +disk1\nqemu> blockdev-backup job-id=j sync=incremental device=disk$/m)
  console.type(CTRL_C)
  await console.untilSeen(/device=disk\^C\nqemu>$/)

  // Events come above a line that is being typed, from both.
  console.type('query-na')
  await console.untilSeen(/^qemu> query-na$/m)
  await qemu.qmp.execute('stop')
  await console.untilSeen(/^[\d:.]+ qemu: STOP\nqemu> query-na$/m)
  await server.ask('remap-add', { 'main-sector': 0, sectors: 8 })
  await console.untilSeen(/ nbd-remap: REMAP_ADDED main-sector=0 [^]*\nqemu> query-na$/m)
  t.equal(console.screen.cursor.column, 'qemu> query-na'.length, 'the cursor is where it was')
  console.type(`med${TAB}flat=tr${TAB}${ENTER}`)
  await console.untilSeen(/^qemu> query-named-block-nodes flat=true\n\[\n/m)

  // The other one, once and for longer.
  console.type(`@nb${TAB}query-rem${TAB}${TAB}`)
  await console.untilSeen(/^query-remap-table +query-remaps\nqemu> @nbd-remap query-remap$/m)
  console.type(`s${ENTER}`)
  await console.untilSeen(/"main-sector": 0.*\n.*qemu>$/s)
  console.type(`use nb${TAB}${ENTER}events !CLIENT_*${ENTER}`)
  await console.untilSeen(/^nbd-remap> events !CLIENT_\*\nnbd-remap>$/m)
  const client = await server.connect()
  await client.disconnect()
  await server.ask('remap-remove', { 'main-sector': 0, sectors: 8 })
  await console.untilSeen(/REMAP_REMOVED [^]*\nnbd-remap>$/)
  t.notMatch(console.output, 'CLIENT_CONNECTED')

  // Backwards through the history: incremental search, !prefix.
  console.type(`use qemu${ENTER}${CTRL_R}flat`)
  await console.untilSeen(/^\(search back\) flat: query-named-block-nodes flat=true$/m)
  console.type(`${CTRL_R}${CTRL_R}`)
  await console.untilSeen(/^\(failed search back\) flat: query-named-block-nodes flat=true$/m)
  console.type('\u0007')
  await console.untilSeen(/^qemu>$/m)
  console.type(`${CTRL_R}cont\u0007cont${ENTER}`)
  await console.untilSeen(/^qemu> cont\n.*RESUME.*\nqemu>$/ms)
  console.type(`!query-st${ENTER}`)
  await console.untilSeen(/^qemu> !query-st\nqemu> query-status\n\{ "status": "running".*\nqemu>$/m)
  console.type(CTRL_D)
  t.same(await console.ended, { code: 0, restored: true })
  t.equal(statSync(HISTORY).mode & 0o777, 0o600)
  t.match(readFileSync(HISTORY, 'utf8'), /^cont\nquery-status\n$/m)
})
