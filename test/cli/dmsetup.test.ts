/** `nbd-remap dmsetup` as its users have it: devices by name, created, steered and removed. */
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { NbdClient } from '../../src/nbd/client.js'
import { MAIN_SIZE, MANY_PROCESSES_TIMEOUT_MS, newPair, PROGRAM } from '../support/cli.js'
import { Devices } from '../support/devices.js'
import { Document } from '../support/documents.js'
import { run, runOk } from '../support/tools.js'
import { imageFile, startQemuNbd } from '../support/upstream-servers.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

const SECTORS = MAIN_SIZE / 512
const tableOf = ({ main, spare }: { main: string; spare: string }, sectors = SECTORS, more = ''): string =>
  `0 ${sectors} dm-remap-v4 ${main} ${spare}${more}`

void t.test('a device is created, shown, steered and removed by its name', async (t) => {
  const devices = Devices.open(t)
  const pair = newPair(t)
  t.equal(await devices.dmsetupOk('ls'), 'No devices found\n')
  const uri = await devices.dmsetupOk('create', 'disk', '--table', tableOf(pair), '--noudevsync')
  t.equal(uri, `nbd+unix:///disk?socket=${devices.path('disk', 'sock')}\n`)
  t.equal(statSync(devices.folder).mode & 0o777, 0o700)
  t.equal(await devices.dmsetupOk('ls'), `disk\t(${uri.trim()})\n`)
  t.equal(await devices.dmsetupOk('table', 'disk'), `${tableOf(pair)}\n`)
  t.equal(await devices.dmsetupOk('table'), `disk: ${tableOf(pair)}\n`)
  t.match(await devices.dmsetupOk('info', 'disk'), /^Name: +disk\nState: +ACTIVE\n[^]*^Sectors: +8192$/m)
  t.match(await devices.dmsetupOk('targets'), /^dm-remap-v4 +v\d/)
  t.match(await runOk('nbdinfo', '--size', uri.trim()), String(MAIN_SIZE))

  t.equal(
    await devices.dmsetupOk('message', 'disk', '0', 'add_remap 1000 3000 100'),
    'Added remap: 1000 -> 3000 (length 100)\n',
  )
  t.equal(
    await devices.dmsetupOk('message', 'disk', '0', 'add_remap', '1000', '3000', '100'),
    'Added remap: 1000 -> 3000 (length 100, was there already)\n',
  )
  t.match(await devices.ask('disk', 'query-remaps'), {
    remaps: [{ 'main-sector': 1000, 'spare-sector': 3000, sectors: 100 }],
    total: 1,
  })
  t.equal(
    await devices.dmsetupOk('message', 'disk', '0', 'verify 1050'),
    `Sector 1050: sector 3050 of ${pair.spare}, readable\n`,
  )
  t.match(await devices.dmsetupOk('message', 'disk', '0', 'status'), /^Device status:\n[^]*Remaps active: +100$/m)
  await devices.dmsetupOk('remove', 'disk')
  t.equal(await devices.dmsetupOk('ls'), 'No devices found\n')
  t.match(await devices.dmsetup('info', 'disk'), { status: 1, stderr: /^nbd-remap: device disk does not exist/ })
  await devices.dmsetupOk('create', 'disk', '--table', tableOf(pair), '--readonly')
  t.match(await devices.dmsetupOk('status', 'disk'), / 0 0 0 0 100 /, 'the remaps are there again')
  t.match(await devices.dmsetup('message', 'disk', '0', 'clear_all'), { status: 1, stderr: /read-only/ })
})

void t.test('messages that cannot be carried out say why, and change nothing', async (t) => {
  const devices = Devices.open(t)
  const pair = newPair(t)
  await devices.dmsetupOk('create', 'disk', '--table', tableOf(pair))
  await devices.dmsetupOk('message', 'disk', '0', 'add_remap 1000 3000 100')
  for (const [message, desc] of [
    ['nosuch', /there is no message 'nosuch'/],
    ['add_remap 2000 3000 100', /spare sector 3000 is in use/],
    ['add_remap 8100 0 100', /leave the main disk, which has 8192 sectors/],
    ['add_remap 0 99999999 1', /leaves the spare's data area, which has \d+ sectors/],
    ['add_remap 999999999999 0 1', /leave the main disk/],
    ['remove_remap 5', /sector 5 is not remapped/],
    ['verify 8192', /sector 8192 leaves the device/],
    [`spare_add ${pair.main}`, /spare/],
  ] as const) {
    await t.rejects(devices.ask('disk', 'device-message', { message }), { message: desc }, message)
  }
  const refused = {
    status: 1,
    stdout: '',
    stderr: "nbd-remap: there is no message 'nosuch': the message help lists them\n",
  }
  t.match(await devices.dmsetup('message', 'disk', '0', 'nosuch'), refused)
  t.match(await devices.dmsetup('message', 'disk', 'x', 'ping'), { status: 2, stderr: /must be a number/ })
  t.match(await devices.dmsetup('message', 'nobody', '0', 'ping'), {
    status: 1,
    stderr: /device nobody does not exist/,
  })
  t.match(await devices.ask('disk', 'query-remap-table'), { remaps: 100 })
  t.equal(await devices.dmsetupOk('message', 'disk', '0', 'remove_remap 1000'), 'Removed remap: 1000 (length 100)\n')
})

void t.test('with --supervise the device is there again when its server dies, and remove ends all of it', async (t) => {
  const devices = Devices.open(t)
  const pair = newPair(t)
  const uri = (await devices.dmsetupOk('create', 'disk', '--supervise', '--table', tableOf(pair))).trim()
  const client = await NbdClient.connect(uri)
  await client.write(512, [Buffer.alloc(512, 7)])
  const pid = await devices.pid('disk')
  process.kill(pid, 'SIGKILL')
  await client.lost
  const next = await NbdClient.connect(uri, { connectTimeoutMs: 120_000 })
  const content = Buffer.alloc(512)
  await next.read(512, content)
  t.same(content, Buffer.alloc(512, 7))
  await next.disconnect()
  t.not(await devices.pid('disk'), pid)
  t.match(await devices.dmsetupOk('info', 'disk'), /^State: +ACTIVE$/m)
  await devices.dmsetupOk('remove', '--force', 'disk')
  t.equal(await devices.dmsetupOk('ls'), 'No devices found\n')
  t.match(
    await devices.dmsetupOk('create', 'disk', '--table', tableOf(pair)),
    /^nbd/,
    'the name and the disks are free',
  )
})

void t.test('a table that cannot be used is refused before anything is written', async (t) => {
  const devices = Devices.open(t)
  const pair = newPair(t)
  for (const [table, status, stderr] of [
    ['0 many dm-remap-v4 a b', 2, /the table cannot be used: SECTORS is 'many'/],
    [tableOf(pair, SECTORS + 1), 3, /main .* has 8192 sectors, so 8193 of it cannot be served/],
    [tableOf({ main: pair.main, spare: pair.main }), 3, /are the same disk/],
    [tableOf({ main: pair.main, spare: join(pair.folder, 'none') }), 1, /none/],
  ] as const) {
    t.match(await devices.dmsetup('create', 'disk', '--table', table), { status, stdout: '', stderr }, table)
  }
  t.match(await devices.dmsetup('create', '../x', '--table', tableOf(pair)), { status: 2, stderr: /is no name/ })
  t.match(await devices.dmsetup('create', 'x'.repeat(120), '--table', tableOf(pair)), { status: 2, stderr: /shorter/ })
  t.match(await devices.dmsetup('create', 'x', join(pair.folder, 'none')), {
    status: 2,
    stderr: /the table in \S+none cannot be read: there is no such file/,
  })
  t.equal(await devices.dmsetupOk('ls'), 'No devices found\n')
  t.ok(
    readFileSync(pair.spare).every((byte) => byte === 0),
    'the spare is as blank as it was',
  )
  writeFileSync(pair.spare, 'somebody needs this', { flag: 'r+' })
  t.match(await devices.dmsetup('create', 'disk', '--table', tableOf(pair)), {
    status: 3,
    stdout: '',
    stderr: /^nbd-remap: /,
  })
  t.match(readFileSync(pair.spare, 'latin1'), /^somebody needs this\0+$/)
})

void t.test('of several that create one name at once, one does', async (t) => {
  const devices = Devices.open(t)
  const pairs = [newPair(t), newPair(t), newPair(t)]
  const outcomes = await Promise.all(pairs.map((pair) => devices.dmsetup('create', 'disk', '--table', tableOf(pair))))
  const winners = pairs.filter((_, n) => outcomes[n]?.status === 0)
  t.equal(winners.length, 1)
  for (const { status, stderr } of outcomes) if (status !== 0) t.match(stderr, /^nbd-remap: device disk exists already/)
  t.equal(await devices.dmsetupOk('table', 'disk'), `${tableOf(winners[0] ?? { main: '', spare: '' })}\n`)
  const losers = pairs.filter((pair) => !winners.includes(pair))
  t.ok(
    losers.every(({ spare }) => readFileSync(spare).every((byte) => byte === 0)),
    'and the others wrote nothing',
  )
})

void t.test('a device whose server was killed is none; what it left is no obstacle', async (t) => {
  const devices = Devices.open(t)
  const pair = newPair(t)
  await devices.dmsetupOk('create', 'disk', '--table', tableOf(pair))
  await devices.dmsetupOk('message', 'disk', '0', 'add_remap 1000 3000 100')
  await devices.kill('disk')
  t.ok(existsSync(devices.path('disk', 'qmp')))
  t.equal(await devices.dmsetupOk('ls'), 'No devices found\n')
  t.match(await devices.dmsetup('status', 'disk'), {
    status: 1,
    stderr: /its server is not running any more: see .*disk.log/,
  })
  await devices.dmsetupOk('create', 'disk', '--table', tableOf(pair))
  t.match(await devices.ask('disk', 'query-remap-table'), { remaps: 100 }, 'the remaps are there')
  await devices.kill('disk')
  await devices.dmsetupOk('remove', 'disk')
  t.notOk(existsSync(devices.path('disk', 'qmp')))
  t.match(await devices.dmsetup('remove', 'disk'), { status: 1, stderr: /device disk does not exist/ })
})

void t.test('remove refuses a device in use, suspend holds its requests, and a stop lets them go on', async (t) => {
  const devices = Devices.open(t)
  const uri = await devices.dmsetupOk('create', 'disk', '--table', tableOf(newPair(t)))
  const client = await NbdClient.connect(uri.trim())
  await devices.dmsetupOk('suspend', 'disk')
  t.match(await devices.dmsetupOk('info', 'disk'), /^State: +SUSPENDED$/m)
  let isWritten = false
  const writing = client.write(0, [Buffer.alloc(4096, 5)]).then(() => {
    isWritten = true
  })
  t.match(await devices.dmsetup('message', 'disk', '0', 'add_remap 1 1 1'), {
    status: 1,
    stderr: /suspended: resume it/,
  })
  t.match(await devices.dmsetup('remove', 'disk'), { status: 1, stderr: /in use by 1 clients/ })
  t.notOk(isWritten)
  await devices.dmsetupOk('resume', 'disk')
  await writing
  await devices.dmsetupOk('suspend', 'disk')
  const last = client.write(4096, [Buffer.alloc(4096, 6)])
  await devices.dmsetupOk('remove', '--force', 'disk')
  await last
  client.destroy()
})

void t.test('fewer sectors than main has make a shorter device', async (t) => {
  const devices = Devices.open(t)
  const uri = await devices.dmsetupOk('create', 'short', '--table', tableOf(newPair(t), 1000, ' block_size 4096'))
  t.match(await runOk('nbdinfo', '--size', uri.trim()), /^512000$/m)
  t.match(await devices.dmsetupOk('table', 'short'), /^0 1000 /)
  t.match(await devices.dmsetup('message', 'short', '0', 'add_remap 100 50 8'), {
    status: 1,
    stderr: /take spare sector 52/,
  })
  await devices.dmsetupOk('message', 'short', '0', 'add_remap 100 52 8')
  t.match(await devices.ask('short', 'query-remaps'), {
    remaps: [{ 'main-sector': 96, 'spare-sector': 48, sectors: 16 }],
  })
})

void t.test('a runtime directory that others may write to is not used', async (t) => {
  const devices = Devices.open(t)
  await runOk('mkdir', devices.folder)
  chmodSync(devices.folder, 0o777)
  const outcome = await devices.dmsetup('create', 'disk', '--table', tableOf(newPair(t)))
  t.match(outcome, { status: 1, stderr: /others may write to it; name another folder with NBD_REMAP_RUNTIME_DIR/ })
})

void t.test('the table comes from standard input or a file, as dmsetup has it', async (t) => {
  const devices = Devices.open(t)
  const pair = newPair(t)
  const file = join(pair.folder, 'table')
  writeFileSync(file, `# the disk\n${tableOf(pair)}\n`)
  const script = `"$1" "$2" dmsetup create disk < "$3"`
  t.match(await run('sh', '-c', script, 'sh', process.execPath, PROGRAM, file), { status: 0 })
  t.match(await devices.dmsetup('create', 'disk', file), { status: 1, stderr: /device disk exists already/ })
  t.match(await devices.dmsetup('create', 'disk', file, '--table', tableOf(pair)), { status: 2, stderr: /not both/ })
})

void t.test('the status line has the fields that docs/DMSETUP.md explains', async (t) => {
  const devices = Devices.open(t)
  const pair = newPair(t)
  const uri = await devices.dmsetupOk('create', 'disk', '--table', tableOf(pair))
  await devices.dmsetupOk('message', 'disk', '0', 'add_remap 0 0 8')
  const client = await NbdClient.connect(uri.trim())
  await client.write(0, [Buffer.alloc(4096, 5)])
  await client.write(MAIN_SIZE / 2, [Buffer.alloc(4096, 5)])
  await client.read(MAIN_SIZE / 2, Buffer.alloc(4096))
  await client.flush()
  const line = (await devices.dmsetupOk('status', 'disk')).trim().split(' ')
  const { rows } = new Document('docs/DMSETUP.md').table('The status line', 'field')
  t.same(
    rows.map(([field]) => Number(field)),
    line.map((_, n) => n + 1),
  )
  const values = Object.fromEntries(rows.map(([, name = ''], n) => [name, line[n]]))
  t.match(values, {
    start: '0',
    length: String(SECTORS),
    target: 'dm-remap-v4',
    'main device': pair.main,
    'spare device': pair.spare,
    reads: '1',
    writes: '2',
    errors: '0',
    'active remaps': '8',
    'I/O operations': '4',
    'sector size': '512',
    'total I/Os': '3',
    'normal I/Os': '2',
    'remapped I/Os': '1',
    'remapped sectors': '8',
    'health score': '100',
    'cache hit rate': '33',
    'operational state': 'operational',
    mode: 'real',
  })
  t.ok(Number(values['I/O time']) > 0 && Number(values['throughput']) > 0)
  const help = await devices.dmsetupOk('message', 'disk', '0', 'help')
  t.same(
    new Document('docs/DMSETUP.md').table('Messages', 'message').rows.map(([message]) => message),
    [...help.matchAll(/^ {2}(\S.*?) {2}/gm)].map(([, message]) => message),
    'and the messages are those of help',
  )
  t.equal(await devices.dmsetupOk('message', 'disk', '0', 'clear_stats'), 'Cleared statistics\n')
  t.match(await devices.dmsetupOk('message', 'disk', '0', 'stats'), /^ {2}Write operations: +0$/m)
  client.destroy()
})

void t.test('remove ends a device whose upstream is gone, and says what was not written', async (t) => {
  const devices = Devices.open(t)
  const upstream = await startQemuNbd(t, await imageFile(t, MAIN_SIZE))
  const table = tableOf({ ...newPair(t), main: upstream.uri })
  const uri = (await devices.dmsetupOk('create', 'disk', '--supervise', '--table', table)).trim()
  const client = await NbdClient.connect(uri)
  await client.write(512, [Buffer.alloc(512, 7)])
  await client.disconnect()
  await upstream.kill()
  t.match(await devices.dmsetup('remove', 'disk'), {
    status: 1,
    stderr:
      /^nbd-remap: device disk is gone, but the pair could not be stopped cleanly: .*ENODEV \(see .*disk\.log\)\n$/,
  })
  t.equal(await devices.dmsetupOk('ls'), 'No devices found\n')
})

void t.test('remove ends a supervisor whose workers find no upstream', async (t) => {
  const devices = Devices.open(t)
  const upstream = await startQemuNbd(t, await imageFile(t, MAIN_SIZE))
  const table = tableOf({ ...newPair(t), main: upstream.uri })
  await devices.dmsetupOk('create', 'disk', '--supervise', '--table', table)
  const pid = await devices.pid('disk')
  await upstream.kill()
  process.kill(pid, 'SIGKILL')
  const log = devices.path('disk', 'log')
  // The second of them: between two there is nobody for some seconds.
  const died = (): number => readFileSync(log, 'utf8').split('the next one takes over').length - 1
  while (died() < 4 || existsSync(devices.path('disk', 'qmp'))) await pause(10)
  await devices.dmsetupOk('remove', 'disk')
  t.equal(await devices.dmsetupOk('ls'), 'No devices found\n')
})
