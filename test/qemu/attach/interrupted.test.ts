/**
 * `attach-vm --copy` and QEMU without a guest: cut off in the middle by the end of QEMU, of the server, and of the operator's
 * patience. The server is slow, and stands still then, so that there is a middle.
 */
import path from 'node:path'
import t, { type Test } from 'tap'
import { DaemonProcess, socketAccepts } from '../../../qemu/process.js'
import { QmpListener } from '../../../qemu/qmp-listener.js'
import type { QmpClient } from '../../../src/qmp/index.js'
import { MiB } from '../../../src/util/units.js'
import { fails, MANY_PROCESSES_TIMEOUT_MS, Program, saidOf } from '../../support/cli.js'
import { imageFile, socketDirectory } from '../../support/upstream-servers.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

const SIZE = 16 * MiB

interface Stage {
  readonly qemu: DaemonProcess
  readonly qmp: QmpClient
  /** Of nbdkit with a disk in memory. */
  readonly server: DaemonProcess
  readonly attachArgs: readonly string[]
  /** What the device uses. */
  node(): Promise<unknown>
  nodes(): Promise<string[]>
}

async function newStage(t: Test, size = SIZE): Promise<Stage> {
  const directory = await socketDirectory(t)
  const disk = await imageFile(t, SIZE, 7)
  const socket = path.join(directory, 'nbd.sock')
  const server = await DaemonProcess.start({
    program: 'nbdkit',
    // So slow that a copy is not done before it can be cut off.
    args: ['-f', '-U', socket, '--filter=rate', 'memory', String(size), 'rate=64M'],
    ready: socketAccepts(socket),
  })
  t.teardown(() => server.kill('SIGKILL'))
  const listener = await QmpListener.open(path.join(directory, 'own.qmp'))
  const monitor = path.join(directory, 'monitor.qmp')
  const qemu = await DaemonProcess.start({
    program: 'qemu-system-x86_64',
    args: [
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-M', 'pc', '-accel', 'tcg', '-m', '64M'],
      ...['-blockdev', `driver=file,node-name=disk,filename=${disk}`, '-device', 'virtio-blk-pci,drive=disk,id=vd0'],
      ...['-qmp', `unix:${monitor},server=on,wait=off`, '-chardev', `socket,id=own,path=${listener.path}`],
      ...['-mon', 'chardev=own,mode=control'],
    ],
  })
  t.teardown(() => qemu.kill('SIGKILL'))
  const qmp = await listener.client(qemu, 20_000)
  listener.close()
  const uri = `nbd+unix:///?socket=${socket}`
  return {
    ...{ qemu, qmp, server },
    attachArgs: ['attach-vm', '--qmp', monitor, '--device', 'vd0', '--uri', uri, '--copy', '--reconnect-delay', '0'],
    node: () => qmp.execute('qom-get', { path: '/machine/peripheral/vd0', property: 'drive' }),
    nodes: async () => {
      const nodes = (await qmp.execute('query-named-block-nodes', { flat: true })) as { 'node-name': string }[]
      return nodes.map((node) => node['node-name'])
    },
  }
}

/** Begins to copy, and gets stuck, because the server stands still. */
async function stuckCopy(t: Test, { qmp, server, attachArgs }: Stage): Promise<Program> {
  using events = qmp.events(({ event, data }) => event === 'JOB_STATUS_CHANGE' && data['status'] === 'created')
  // QEMU has connected when the job is created; before, the handshake would be what gets stuck.
  const attaching = new Program(t, attachArgs)
  await events.next({ timeoutMs: 60_000 })
  process.kill(server.pid, 'SIGSTOP')
  return attaching
}

void t.test('a copy that is cut off leaves the machine with the disk that it had', async (t) => {
  await t.test('by the end of the server', async (t) => {
    const stage = await newStage(t)
    const attaching = await stuckCopy(t, stage)
    await stage.server.kill('SIGKILL')
    const { code } = await attaching.exited
    t.equal(code, 1)
    t.match(saidOf(attaching.stderr), [/^nbd-remap: the disk cannot be copied: .* \(the machine is as it was\)$/])
    t.equal(await stage.node(), 'disk')
    t.same(await stage.nodes(), ['disk'])
  })

  await t.test('by the end of QEMU', async (t) => {
    const stage = await newStage(t)
    const attaching = await stuckCopy(t, stage)
    await stage.qemu.kill('SIGKILL')
    const { code } = await attaching.exited
    t.equal(code, 1)
    t.match(saidOf(attaching.stderr), [/\(QEMU does not answer any more; its disk is as it was\)$/])
  })

  await t.test('by Ctrl-C', async (t) => {
    const stage = await newStage(t)
    const attaching = await stuckCopy(t, stage)
    const ended = attaching.end('SIGINT')
    process.kill(stage.server.pid, 'SIGCONT')
    const { code } = await ended
    t.equal(code, 1)
    t.match(saidOf(attaching.stderr), [/^nbd-remap: interrupted \(the machine is as it was\)$/])
    t.equal(await stage.node(), 'disk')
    t.same(await stage.nodes(), ['disk'])
  })
})

void t.test('what cannot be is refused, and changes nothing', async (t) => {
  const stage = await newStage(t, SIZE / 2)
  const [, ...options] = stage.attachArgs
  await fails(t, 3, /has 16777216 bytes, and what is to take its place has 8388608 bytes/, stage.attachArgs)
  await fails(t, 3, /nobody knows which disk the server has.*--same-content/, [
    'attach-vm',
    ...options.filter((word) => word !== '--copy'),
  ])
  await fails(t, 2, /--spare starts a server, and --control and --uri/, [...stage.attachArgs, '--spare', 'spare.img'])
  await fails(t, 2, /for a server that is started/, [...stage.attachArgs, '--create'])
  await fails(t, 1, /QEMU cannot be asked: cannot connect to/, ['attach-vm', ...options, '--qmp', '/nowhere.qmp'])
  await fails(t, 1, /Failed to connect|No such file/, [
    'attach-vm',
    ...options,
    '--uri',
    'nbd+unix:///?socket=/nowhere',
  ])
  await fails(t, 1, /no server answers/, [
    'detach-vm',
    '--qmp',
    options[1] ?? '',
    '--device',
    'vd0',
    '--control',
    '/nowhere.qmp',
  ])
  t.same(await stage.nodes(), ['disk'])
  t.match(await stage.qmp.execute('query-status'), { status: 'running' })
})
