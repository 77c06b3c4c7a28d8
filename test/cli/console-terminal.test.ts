/** A session of `nbd-remap console` over QEMU and nbd-remap at once, on a pseudo-terminal. */
import { readFileSync, statSync } from 'node:fs'
import { constants } from 'node:os'
import t, { type Test } from 'tap'
import { newPair, Serve } from '../support/cli.js'
import { qemuForConsole, separateHome } from '../support/console.js'
import { GREETING, negotiating, scriptedServer } from '../support/qmp-server.js'
import { Terminal } from '../support/terminal.js'

const TAB = '\t'
const ENTER = '\r'
const CTRL_C = '\u0003'
const CTRL_D = '\u0004'
const CTRL_R = '\u0012'

const HISTORY = separateHome(t)

const start = (t: Test, ...args: string[]): Terminal => new Terminal(t, ['console', ...args], { columns: 100 })

/** Answers every command but `hang` and `crash`, which ends the connection. */
const fakeServer = (t: Test): ReturnType<typeof scriptedServer> =>
  scriptedServer(
    t,
    (socket) => socket.write(GREETING),
    negotiating((socket, { execute, id }) => {
      if (execute === 'crash') socket.destroy()
      else if (execute !== 'hang') socket.write(`{"return": [], "id": ${String(id)}}\r\n`)
    }),
  )

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
  console.type(`query-remaps${ENTER}`)
  await console.untilSeen(/has not been found \(nbd-remap has it: @nbd-remap quer/)
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

void t.test('a connection that is lost is told at the prompt, and dialled again when asked', async (t) => {
  const server = await fakeServer(t)
  const console = start(t, `a=${server.path}`)
  await console.untilSeen(/^a>$/m)
  console.type(`crash${ENTER}`)
  await console.untilSeen(/whether it carried crash out is not known\n(?:.*\n)*a \(away\)>$/)
  t.match(console.screen.rows.join(''), /a: .* hung up; reconnect a dials again/)
  console.type(`rec${TAB}${ENTER}`)
  await console.untilSeen(/^a: connected to .*\na>$/m)
  console.type(`ask${ENTER}`)
  await console.untilSeen(/^\[\]\na>$/m)
  console.type(`exit${ENTER}`)
  t.same(await console.ended, { code: 0, restored: true })
})

void t.test('a target that is not there does not hinder the others; with none there is no console', async (t) => {
  const server = await fakeServer(t)
  const console = start(t, `a=${server.path}`, `b=${server.path}.none`)
  await console.untilSeen(/^b: cannot connect to .*\n(?:.*\n)*a>$/m)
  console.type(`@b stop${ENTER}`)
  await console.untilSeen(/^b: b is away: cannot connect/m)
  console.type(CTRL_D)
  t.same(await console.ended, { code: 0, restored: true })
  const none = start(t, `b=${server.path}.none`)
  t.same(await none.ended, { code: 1, restored: true })
  t.match(none.output, /^nbd-remap: cannot connect to/)
})

void t.test('Ctrl-C stops waiting, and what was typed meanwhile is for the next line', async (t) => {
  const server = await fakeServer(t)
  const console = start(t, `a=${server.path}`)
  await console.untilSeen(/^a>$/m)
  console.type(`hang${ENTER}`)
  await console.untilSeen(/^a> hang\n$/m)
  console.type(CTRL_C)
  await console.untilSeen(/^a: interrupted; a may still carry hang out\na>$/m)
  console.type(`wait STOP${ENTER}`)
  await console.untilSeen(/^a> wait STOP\n$/m)
  console.type(`${CTRL_C}print 5${ENTER}`)
  await console.untilSeen(/^a> print 5\n5\na>$/m)
  console.type(CTRL_C)
  await console.untilSeen(/^a> \^C\nCtrl-D or exit leaves the console\.\na>$/m)
  console.signal(constants.signals.SIGTERM)
  t.same(await console.ended, { code: 128 + constants.signals.SIGTERM, restored: true })
})

void t.test('quit, which would end the machine, is asked about', async (t) => {
  const server = await fakeServer(t)
  const console = start(t, `a=${server.path}`)
  await console.untilSeen(/^a>$/m)
  console.type(`quit${ENTER}`)
  await console.untilSeen(/^quit ends QEMU .* itself \(exit leaves the console\)\. End a\? \[y\/N\]$/m)
  console.type(ENTER)
  await console.untilSeen(/\[y\/N\]\na>$/m)
  t.notOk(server.received.some(({ execute }) => execute === 'quit'))
  console.type(`quit${ENTER}`)
  await console.untilSeen(/\[y\/N\]$/)
  console.type(`y${ENTER}`)
  await console.untilSeen(/^\[\]\na>$/m)
  t.ok(server.received.some(({ execute }) => execute === 'quit'))
})

void t.test('a long line, a narrow terminal, and a paste of several lines', async (t) => {
  const server = await fakeServer(t)
  const console = new Terminal(t, ['console', `a=${server.path}`], { columns: 20 })
  await console.untilSeen(/^a>$/m)
  console.type('\u001a')
  await console.untilSeen(/^a>$/m)
  console.type(`print "${'x'.repeat(30)}"`)
  await console.untilSeen(/^a> print "x{10}\nx{20}\n"$/m)
  console.type(`${'\u001b[D'.repeat(25)}y`)
  await console.untilSeen(/^a> print "x{6}yx{3}\nx{20}\nx"$/m)
  console.type(CTRL_C)
  await console.untilSeen(/\^C\na>$/)
  console.type(`\u001b[200~print 1\r{"execute":\r\t"ask"}\rset y\u001b[201~ = 7${ENTER}print $y${ENTER}`)
  await console.untilSeen(/^a> print 1\n1\na> \{"execute":\n +"ask"\}\n\[\]\na> set y = 7\na> print \$y\n7\na>$/m)
  console.type(CTRL_D)
  t.same(await console.ended, { code: 0, restored: true })
})
