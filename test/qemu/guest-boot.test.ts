/** One boot of the real guest image under QEMU's emulation, with a 64 MiB disk. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { guestImage } from '../../qemu/guest-image.js'
import { Guest, GuestConnectionError, GuestTimeoutError } from '../../qemu/guest.js'
import { MiB } from '../../src/util/units.js'

const folder = await mkdtemp(join(tmpdir(), 'guest-'))
const agent = join(folder, 'agent')
const disk = join(folder, 'disk')
await writeFile(disk, '')
await truncate(disk, 64 * MiB)

async function boot(): Promise<ChildProcess> {
  const { kernel, initrd, append, cpu } = await guestImage()
  return spawn(
    // QEMU dies with this process, however this process dies.
    'setpriv',
    [
      ['--pdeathsig', 'KILL', 'qemu-system-x86_64'],
      ['-accel', 'tcg', '-M', 'pc', '-cpu', cpu, '-m', '256', '-nodefaults', '-display', 'none', '-no-reboot'],
      ['-kernel', kernel, '-initrd', initrd, '-append', append, '-serial', `file:${join(folder, 'serial')}`],
      ['-chardev', `socket,id=agent,path=${agent},server=on,wait=off`],
      ['-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=agent,name=nbd-remap.agent.0'],
      ['-drive', `file=${disk},if=virtio,format=raw`],
    ].flat(),
    { stdio: ['ignore', 'inherit', 'inherit'] },
  )
}

const started = performance.now()
const qemu = await boot()
const ended = once(qemu, 'exit')
t.teardown(async () => {
  qemu.kill('SIGKILL')
  await ended
  await rm(folder, { recursive: true })
})

/** QEMU serves one client at a time, so each test has the guest to itself and lets it go, also when it fails. */
async function connect(t: Test): Promise<Guest> {
  const guest = await Guest.connect(agent, { timeoutMs: 20_000 })
  t.teardown(() => {
    guest.close()
  })
  return guest
}

const first = await Guest.connect(agent)
first.close()
t.comment(`the agent answered ${Math.round(performance.now() - started)} ms after QEMU was started`)

void t.test('a command gives status, standard output and standard error, apart', async (t) => {
  const guest = await connect(t)
  t.same(await guest.run('echo out; echo err >&2; exit 3'), { status: 3, stdout: 'out\n', stderr: 'err\n' })
  t.same(await guest.run('true'), { status: 0, stdout: '', stderr: '' })
  t.equal((await guest.run('kill -9 $$')).status, 128 + 9)
  t.match(await guest.run('no-such-command'), { status: 127, stderr: /no-such-command: not found/ })
  t.match(await guest.run('if'), { status: 2, stderr: /syntax error/ })
  t.equal(await guest.check(`printf '%s|' "a  b" 'ü"' \\\\`), 'a  b|ü"|\\|')
})

void t.test('input reaches the command, whole', async (t) => {
  const guest = await connect(t)
  const input = 'line of input\n'.repeat(2000)
  t.equal(await guest.check('cat', { input }), input)
  t.equal(await guest.check('wc -c'), '0\n', 'without input it is empty')
})

void t.test('an output of megabytes arrives whole', async (t) => {
  const guest = await connect(t)
  const lines = 700_000
  const output = await guest.check(`seq ${lines}`)
  t.ok(output.length > 4 * MiB)
  t.equal(output, Array.from({ length: lines }, (_, n) => `${n + 1}\n`).join(''))
})

void t.test('commands run side by side and their replies do not mix', async (t) => {
  const guest = await connect(t)
  const release = guest.check('mkfifo /tmp/gate && cat /tmp/gate')
  const outputs = await Promise.all(
    Array.from({ length: 12 }, (_, n) => guest.check(`seq ${n} 12 30000; until [ -e /tmp/gate ]; do sleep 0.1; done`)),
  )
  for (const [n, output] of outputs.entries()) {
    const expected = []
    for (let line = n; line <= 30_000; line += 12) expected.push(`${line}\n`)
    t.equal(output, expected.join(''), `command ${n}`)
  }
  await guest.check('echo open > /tmp/gate')
  t.equal(await release, 'open\n', 'a command waited for a later one')
})

void t.test('what a command leaves in the background does not hold up its end', async (t) => {
  const guest = await connect(t)
  t.equal(await guest.check('sleep 1000 & echo done', { timeoutMs: 60_000 }), 'done\n')
})

void t.test('a command that is out of time is killed with all that it started', async (t) => {
  const guest = await connect(t)
  await t.rejects(guest.run('sleep 4321 & sleep 4321', { timeoutMs: 1000 }), GuestTimeoutError)
  await guest.check('while pgrep -f "sleep 432[1]" || ps | grep -q "sleep 432[1]"; do sleep 0.1; done', {
    timeoutMs: 60_000,
  })
})

void t.test('a client that connects later resynchronises, whatever the one before it left', async (t) => {
  const guest = await connect(t)
  const running = guest.run('seq 300000; sleep 0.5; seq 300000')
  guest.close()
  await t.rejects(running, GuestConnectionError)
  await t.rejects(guest.run('true'), GuestConnectionError)
  const second = await connect(t)
  t.equal(await second.check('echo second'), 'second\n')
})

void t.test('ext4 on the disk: make, write, read again after dropping caches, check', async (t) => {
  const guest = await connect(t)
  await guest.check('mkfs.ext4 -q /dev/vda && mkdir /mnt/disk && mount /dev/vda /mnt/disk')
  await guest.check(
    'cd /mnt/disk && for n in 1 2 3 4; do head -c 4m /dev/urandom > $n; done && sha256sum [1-4] > /tmp/sums && sync',
  )
  await guest.check('echo 3 > /proc/sys/vm/drop_caches')
  t.match(await guest.check('cd /mnt/disk && sha256sum -c /tmp/sums'), /4: OK/)
  await guest.check('umount /mnt/disk && e2fsck -fn /dev/vda')
  t.match(await guest.check('dumpe2fs -h /dev/vda'), /Filesystem state: +clean/)
  t.match(await guest.check('debugfs -R "stat 4" /dev/vda'), /Size: 4194304/)
  t.match(await guest.run('mke2fs -V'), { stderr: /^mke2fs 1\./ }, 'not the applet of busybox')
})

void t.test('the whole kernel log can be read, and the serial console has next to nothing', async (t) => {
  const guest = await connect(t)
  t.match(await guest.kernelLog(), /Linux version [^]*EXT4-fs \(vda\): mounted filesystem/)
  t.notMatch(await readFile(join(folder, 'serial'), 'utf8'), /Linux version/)
})

void t.test('when QEMU is killed a running command fails at once', async (t) => {
  const guest = await connect(t)
  const running = guest.run('sleep 1000')
  await guest.check('true')
  qemu.kill('SIGKILL')
  await t.rejects(running, GuestConnectionError)
})
