/** Without a kernel driver: what nbd-client is called with, and what is said where something is missing. */
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { cli, newFolder, newPair, PROGRAM, Serve } from '../support/cli.js'
import { run } from '../support/tools.js'

/** A program in place of nbd-client that writes down its arguments, first in PATH until the test ends. */
function stubClient(t: Test, exitCode = 0): () => string {
  const folder = newFolder(t)
  const record = join(folder, 'arguments')
  const stub = join(folder, 'nbd-client')
  writeFileSync(stub, `#!/bin/sh\necho "$*" >> ${record}\nexit ${exitCode}\n`)
  chmodSync(stub, 0o755)
  const before = process.env['PATH'] ?? ''
  process.env['PATH'] = `${folder}:${before}`
  t.teardown(() => {
    process.env['PATH'] = before
  })
  return () => readFileSync(record, 'utf8').trim()
}

/** A container need not have one. */
const someBlockDevice = (): string | undefined =>
  readdirSync('/dev')
    .map((name) => join('/dev', name))
    .find((path) => statSync(path, { throwIfNoEntry: false })?.isBlockDevice())

void t.test('nbd-client is told socket, device and export', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', '--name', 'my disk'])
  for (const [args, expected] of [
    [['--control', server.controlPath], `-unix ${server.socketPath} /dev/null -N my disk -b 512 -persist`],
    [['nbd://127.0.0.1:10810/disk'], '127.0.0.1 10810 /dev/null -N disk -b 512 -persist'],
    [['nbd://localhost'], 'localhost 10809 /dev/null -N  -b 512 -persist'],
  ] as const) {
    await t.test(args.join(' '), async (t) => {
      const given = stubClient(t)
      t.match(await cli(t, 'attach', ...args, '--device', '/dev/null'), { code: 0, stdout: '/dev/null\n', stderr: '' })
      t.equal(given(), expected)
    })
  }
  await t.test('detach', async (t) => {
    const given = stubClient(t)
    t.match(await cli(t, 'detach', '/dev/null'), {
      code: 2,
      stderr: /null is no block device: give what nbd-remap attach/,
    })
    const device = someBlockDevice()
    if (device === undefined) return
    t.match(await cli(t, 'detach', device), { code: 0, stdout: '', stderr: '' })
    t.equal(given(), `-d ${device}`)
  })
})

void t.test('what fails or is missing is said, with exit code 1', async (t) => {
  const uri = 'nbd://127.0.0.1:10810/disk'
  const missing = /there is no \/dev\/nbd9999: the kernel's nbd driver is not loaded.*nbdcopy/
  t.match(await cli(t, 'attach', uri, '--device', '/dev/nbd9999'), { code: 1, stdout: '', stderr: missing })
  if (!existsSync('/sys/block/nbd0')) {
    t.match(await cli(t, 'attach', uri), { code: 1, stderr: /there is no \/dev\/nbd0: .*modprobe nbd/ })
  }
  t.match(await cli(t, 'attach', 'nbds://127.0.0.1/disk'), { code: 1, stderr: /is encrypted/ })
  t.match(await cli(t, 'attach'), { code: 2, stderr: /give the name of a device, an NBD URI, or --control/ })
  t.match(await cli(t, 'detach', '/dev/nbd9999'), { code: 1, stderr: /there is no \/dev\/nbd9999/ })
  await t.test('nbd-client fails', async (t) => {
    stubClient(t, 3)
    const failed = await cli(t, 'attach', uri, '--device', '/dev/null')
    t.match(failed, { code: 1, stdout: '', stderr: /nbd-client 127.0.0.1 10810 .* failed \(exit code 3\)/ })
  })
})

void t.test('without nbd-client its package is named', async (t) => {
  const args = ['attach', 'nbd://127.0.0.1/disk', '--device', '/dev/null']
  const outcome = await run('env', 'PATH=/nonexistent', process.execPath, PROGRAM, ...args)
  t.match(outcome, { status: 1, stderr: /the program nbd-client is needed: apt-get install nbd-client/ })
})
