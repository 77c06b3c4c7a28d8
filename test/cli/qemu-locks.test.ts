/**
 * A disk that QEMU or one of its programs has is nobody else's (promise P5). QEMU locks with fcntl(2), the server with flock(2):
 * that they meet is by what the kernel shows of all locks.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { cli, digest, fails, MANY_PROCESSES_TIMEOUT_MS, newFolder, newPair, newSpare, Serve } from '../support/cli.js'
import { REFUSED, refuses, serve } from '../support/refusals.js'
import { startNbdkit, startQemuNbd, startStorageDaemon } from '../support/upstream-servers.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

const WRITTEN = /main\.img is in use by qemu-nbd \(process \d+\), which writes to it: two writers would destroy it/

void t.test('a main disk that qemu-nbd writes to is refused, and what to do is said', async (t) => {
  const pair = newPair(t)
  const upstream = await startQemuNbd(t, pair.main)
  await refuses(t, pair, WRITTEN, { args: ['--create'] })
  await refuses(t, pair, /Stop it first; .* is put behind nbd-remap by nbd-remap attach-vm/, { args: ['--create'] })
  await refuses(t, pair, WRITTEN, { args: ['--create', '--supervise'] })
  await upstream.kill()
  t.same(await (await Serve.start(t, pair, ['--create'])).end(), { code: 0, signal: null })
})

void t.test('a storage daemon that exports the disk for writing is named', async (t) => {
  const pair = newPair(t)
  const blockdev = `driver=file,node-name=top,filename=${pair.main}`
  await startStorageDaemon(t, blockdev)
  await refuses(t, pair, /in use by qemu-storage-d\w* \(process \d+\), which writes to it/, { args: ['--create'] })
})

void t.test('a spare that qemu-nbd writes to is not touched, by whatever command', async (t) => {
  const pair = newPair(t)
  await (await Serve.start(t, pair)).end()
  const { main, spare, folder } = pair
  const before = digest(spare)
  await startQemuNbd(t, spare)
  const inUse = /spare\.img is in use by qemu-nbd \(process \d+\), which writes to it/
  await refuses(t, pair, inUse)
  await refuses(t, pair, inUse, { args: ['--main-in-use'] })
  await refuses(t, pair, /what is read here would change on the way/, { args: ['--read-only'] })
  for (const command of ['verify', 'repair', 'dump', 'grow'])
    await fails(t, REFUSED, inUse, [command, '--spare', spare])
  await fails(t, REFUSED, inUse, ['format', '--main', main, '--spare', spare, '--force'])
  await fails(t, REFUSED, inUse, ['export', '--spare', spare, join(folder, 'saved')])
  t.equal(digest(spare), before)
})

void t.test('who only reads it may: beside a reader, but not beside one that allows nobody to write', async (t) => {
  const pair = newPair(t)
  await (await Serve.start(t, pair)).end()
  await startQemuNbd(t, pair.main, '--read-only')
  const reader = await Serve.start(t, pair, ['--read-only'])
  t.same(await reader.end(), { code: 0, signal: null })
  t.same(await (await Serve.start(t, pair, [])).end(), { code: 0, signal: null })

  await startMachine(t, pair.main, 'on')
  await refuses(t, pair, /in use by qemu-system-\S+ \(process \d+\), which allows nobody to write to it meanwhile/)
  t.same(await (await Serve.start(t, pair, ['--read-only'])).end(), { code: 0, signal: null })
})

void t.test(
  'with --main-in-use a server waits for the disk of a running machine; format only looks at it',
  async (t) => {
    const pair = newPair(t)
    await startMachine(t, pair.main, 'off')
    await refuses(t, pair, /in use by qemu-system-\S+ \(process \d+\), which writes to it/, { args: ['--create'] })
    const before = digest(pair.main)
    const formatted = await cli(t, 'format', '--main', pair.main, '--spare', pair.spare)
    t.equal(formatted.code, 0, formatted.stderr)
    t.equal(digest(pair.main), before)
    const server = await Serve.start(t, pair, ['--main-in-use'])
    t.match(
      server.stderr,
      /main\.img is in use by qemu-system-\S+ .*nothing may be written here before that has let go/,
    )
    await fails(t, REFUSED, /is in use by another process/, serve(pair, '--main-in-use'))
    t.same(await server.end(), { code: 0, signal: null })
  },
)

void t.test('a server is restarted while QEMU uses the disk through it', async (t) => {
  const pair = newPair(t)
  const server = await Serve.start(t, pair)
  await startQemuNbd(t, server.uri, '--persistent')
  const again = await Serve.start(t, { ...pair, folder: newFolder(t), spare: newSpare(pair.folder, 'b') }).catch(String)
  t.match(again, /is in use by another process/, 'the one that runs has it')
  t.same(await server.end(), { code: 0, signal: null })
  t.same(await (await Serve.start(t, pair, [])).end(), { code: 0, signal: null })
})

void t.test('who locks nothing is not seen', async (t) => {
  const pair = newPair(t)
  await startNbdkit(t, 'file', pair.main)
  t.same(await (await Serve.start(t, pair)).end(), { code: 0, signal: null })
})

/** A machine that never runs, with the disk open as a running one has it. */
async function startMachine(t: Test, file: string, readOnly: 'on' | 'off'): Promise<void> {
  const drive = `file=${file},format=raw,if=virtio,read-only=${readOnly}`
  const child = spawn(
    'qemu-system-x86_64',
    ['-S', '-nodefaults', '-display', 'none', '-qmp', 'stdio', '-drive', drive],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  const exited = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exited
  })
  // Its greeting: the disk is open.
  await once(child.stdout, 'data')
}
