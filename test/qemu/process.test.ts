import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import readline from 'node:readline'
import t from 'tap'
import { DaemonProcess, LaunchError, ProgramNotFoundError, socketAccepts, stdoutLine } from '../../qemu/index.js'
import { socketDirectory } from '../support/qmp-server.js'

const node = (script: string, options = {}) => ({ program: process.execPath, args: ['-e', script], ...options })
const FOREVER = 'setInterval(() => undefined, 1000)'

/** Not so a zombie, which only waits for its new parent to take notice. */
const isRunning = (pid: number): boolean => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

void t.test('ready when a line on standard output says so', async (t) => {
  const script = `process.stdout.write('not yet\\nrea'); process.stdout.write('dy at 5\\n'); ${FOREVER}`
  await using daemon = await DaemonProcess.start(node(script, { ready: stdoutLine(/^ready at \d$/) }))
  t.match(daemon.log(), /not yet\nready at 5/)
  t.ok(daemon.running)
})

void t.test('ready when its socket accepts', async (t) => {
  const socket = path.join(await socketDirectory(t), 's')
  const script = `require('net').createServer((s) => s.end()).listen(${JSON.stringify(socket)})`
  await using daemon = await DaemonProcess.start(node(script, { ready: socketAccepts(socket) }))
  t.ok(daemon.running)
})

void t.test('a launch that fails has exit code, command line and log', async (t) => {
  const script = "console.log('out'); console.error('no such disk'); process.exit(7)"
  const error = await DaemonProcess.start(node(script, { name: 'victim', ready: stdoutLine(/ready/) })).catch(
    (error: unknown) => error,
  )
  t.ok(error instanceof LaunchError)
  t.match(error, {
    reason: 'victim exited with code 7 before it was ready',
    exit: { code: 7, signal: null },
    log: /no such disk/,
    commandLine: /node -e '.*no such disk/,
    message: /exited with code 7[^]*command: .*-e[^]*no such disk/,
  })
})

void t.test('a launch that hangs is ended after its time', async (t) => {
  const started = DaemonProcess.start(
    node(`console.log('pid', process.pid); ${FOREVER}`, { ready: stdoutLine(/ready/), readyTimeoutMs: 300 }),
  )
  const error: unknown = await started.catch((error: unknown) => error)
  t.ok(error instanceof LaunchError)
  if (!(error instanceof LaunchError)) return
  t.match(error.reason, /300 ms went by before it was ready/)
  t.notOk(isRunning(Number(/pid (\d+)/.exec(error.log)?.[1])))
})

void t.test('a missing program is named with its Debian package', async (t) => {
  const env = { PATH: '/nonexistent' }
  for (const [program, debianPackage] of [
    ['qemu-storage-daemon', 'qemu-system-common'],
    ['nbdkit', 'nbdkit'],
    ['/nowhere/qemu-io', 'qemu-utils'],
  ] as const) {
    const error = await DaemonProcess.start({ program, args: [], env }).catch((error: unknown) => error)
    t.ok(error instanceof ProgramNotFoundError)
    t.match(error, { message: `${program} is not installed: it is in the Debian package ${debianPackage}` })
  }
  await t.rejects(DaemonProcess.start({ program: 'no-such-program', args: [] }), {
    message: 'no-such-program is not installed',
  })
})

void t.test('close asks politely, and kills the whole group when that does not help', async (t) => {
  const polite = await DaemonProcess.start(
    node(`process.on('SIGTERM', () => process.exit(3)); console.log('up'); ${FOREVER}`, { ready: stdoutLine(/up/) }),
  )
  t.same(await polite.close(), { code: 3, signal: null })
  t.same(await polite.close(), { code: 3, signal: null }, 'closing again does nothing')

  const script = `
    process.on('SIGTERM', () => undefined)
    const child = require('child_process').spawn(process.execPath, ['-e', ${JSON.stringify(FOREVER)}])
    console.log('child', child.pid)
    ${FOREVER}`
  const stubborn = await DaemonProcess.start(node(script, { ready: stdoutLine(/child/) }))
  const grandchild = Number(/child (\d+)/.exec(stubborn.log())?.[1])
  t.ok(isRunning(grandchild))
  t.same(await stubborn.close(50), { code: null, signal: 'SIGKILL' })
  t.notOk(await survives(grandchild))
})

void t.test('kill sends its signal and exited tells', async (t) => {
  const daemon = await DaemonProcess.start(node(FOREVER))
  await daemon.kill('SIGKILL')
  t.same(await daemon.exited, { code: null, signal: 'SIGKILL' })
  t.notOk(daemon.running)
  await daemon.kill('SIGTERM')
})

void t.test('the log keeps the end of what was printed, bounded', async (t) => {
  const script = "for (let n = 0; n < 100000; n++) console.log('line', n); process.exitCode = 1"
  const error = await DaemonProcess.start(node(script, { ready: stdoutLine(/never/) })).catch((error: unknown) => error)
  t.ok(error instanceof LaunchError)
  if (!(error instanceof LaunchError)) return
  t.match(error.log, /^\[\.\.\.\][^]*line 99999\n$/)
  t.ok(error.log.length <= 64 * 1024 + 5)
})

const PARENT = `
  import { DaemonProcess, stdoutLine } from ${JSON.stringify(new URL('../../qemu/index.js', import.meta.url).href)}
  const script = "console.log('up'); setInterval(() => undefined, 1000)"
  const daemon = await DaemonProcess.start({ program: process.execPath, args: ['-e', script], ready: stdoutLine(/up/) })
  console.log(daemon.pid)
`

for (const [how, end] of [
  ['ends', 'process.exit(0)'],
  ['throws', "throw new Error('on purpose')"],
  ['is interrupted', "process.kill(process.pid, 'SIGINT')"],
  ['is terminated', "process.kill(process.pid, 'SIGTERM')"],
  ['is killed', "process.kill(process.pid, 'SIGKILL')"],
] as const) {
  void t.test(`no daemon outlives a parent that ${how}`, async (t) => {
    const parent = spawn(process.execPath, ['--input-type=module', '-e', PARENT + end], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const exited = once(parent, 'exit')
    const [line] = (await once(readline.createInterface(parent.stdout), 'line')) as [string]
    await exited
    t.match(line, /^\d+$/)
    t.notOk(await survives(Number(line)))
  })
}

/** Waits for the process to vanish: who is killed needs a moment to die. */
async function survives(pid: number): Promise<boolean> {
  const deadline = performance.now() + 5000
  while (isRunning(pid) && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 10))
  return isRunning(pid)
}
