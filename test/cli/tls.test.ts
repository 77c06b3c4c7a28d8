import { spawn } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { NbdClient } from '../../src/nbd/client.js'
import { makeCredentials, overTls } from '../support/certificates.js'
import { MAIN_SIZE, Serve, fails, newFolder, newMain, newPair, newSpare } from '../support/cli.js'
import { until } from '../support/nbd-server.js'
import { run, runOk } from '../support/tools.js'

const credentials = await makeCredentials(t)
const { server: certificates, client, pskFile } = credentials
const VERIFYING = ['--tls', 'require', '--tls-certificates', certificates, '--tls-verify-peer']

void t.test('serve --tls require says so in its URI, and serves nobody else', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', ...VERIFYING])
  t.match(server.uri, /^nbds\+unix:\/\/\/disk\?socket=/)
  const plain = server.uri.replace('nbds', 'nbd')
  t.equal((await runOk('nbdinfo', '--size', overTls(plain, { 'tls-certificates': client }))).trim(), String(MAIN_SIZE))
  t.not((await run('nbdinfo', '--size', plain)).status, 0)
  t.not((await run('nbdinfo', '--size', overTls(plain, { 'tls-certificates': credentials.anonymous }))).status, 0)
  t.same(await server.end(), { code: 0, signal: null })
  t.match(server.stderr, /warn {2}client \d+ \(unix\): dropped: the client has no certificate/)
})

void t.test('serve --tls on serves both', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', '--tls', 'on', '--tls-psk', pskFile])
  t.match(server.uri, /^nbd\+unix:/)
  await runOk('nbdinfo', '--size', server.uri)
  await runOk('nbdinfo', '--size', overTls(server.uri, { 'tls-psk-file': pskFile }, 'alice'))
  await server.says(/client 2 \(unix\) uses TLSv1.3/)
})

void t.test('a worker does TLS on the connections of its supervisor, and so does the next one', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', '--supervise', ...VERIFYING])
  const uri = overTls(server.uri.replace('nbds', 'nbd'), { 'tls-certificates': client })
  await runOk('nbdinfo', '--size', uri)
  const { pid } = await server.ask<{ pid: number }>('query-status')
  t.not(pid, server.pid)
  process.kill(pid, 'SIGKILL')
  await runOk('nbdinfo', '--size', uri)
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test('QEMU makes its connection again over TLS when the worker has died', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', '--supervise', ...VERIFYING])
  const object = `tls-creds-x509,id=t0,endpoint=client,dir=${client}`
  const disk = `driver=nbd,server.type=unix,server.path=${server.socketPath},export=disk,reconnect-delay=60`
  const args = ['--object', object, '--image-opts', `${disk},tls-creds=t0,tls-hostname=localhost`]
  const qemu = spawn('qemu-io', args, { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => qemu.kill('SIGKILL'))
  let output = ''
  qemu.stdout.on('data', (data: Buffer) => (output += data.toString()))
  const closed = new Promise((resolve) => qemu.once('close', resolve))
  const wrote = (count: number): Promise<void> => until(() => output.split('wrote 4096/4096').length > count)
  qemu.stdin.write('write -P 0x41 0 4k\n')
  await wrote(1)
  const { pid } = await server.ask<{ pid: number }>('query-status')
  process.kill(pid, 'SIGKILL')
  qemu.stdin.write('write -P 0x42 4k 4k\n')
  await wrote(2)
  qemu.stdin.end('read -P 0x41 0 4k\nread -P 0x42 4k 4k\nquit\n')
  t.equal(await closed, 0)
  t.equal(output.match(/read 4096\/4096 bytes/g)?.length, 2, output)
  t.notMatch(output, /failed|error/i)
  t.same(await server.end(), { code: 0, signal: null })
  t.equal(server.stderr.match(/uses TLSv1\.3/g)?.length, 2, 'over TLS both times')
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test('a served disk can be the main disk of another server, over TLS', async (t) => {
  const below = await Serve.start(t, newPair(t), ['--create', '--tls', 'require', '--tls-psk', pskFile])
  const main = overTls(below.uri.replace('nbds', 'nbd'), { 'tls-psk-file': pskFile }, 'bob')
  const folder = newFolder(t)
  const server = await Serve.start(t, { folder, main, spare: newSpare(folder) })
  const connected = await NbdClient.connect(server.uri)
  await connected.write(4096, [Buffer.alloc(4096, 0x61)], { fua: true })
  await connected.disconnect()
  t.same(await server.read(4096, 4096), Buffer.alloc(4096, 0x61))
  t.same(await server.end(), { code: 0, signal: null })
  t.match(below.stderr, /uses TLSv1\.3/)
})

void t.test('options about TLS that make no sense together are wrong usage', async (t) => {
  const { main, spare } = newPair(t)
  const serve = (...args: string[]): string[] => ['serve', '--main', main, '--spare', spare, ...args]
  const CASES: readonly [RegExp, string[]][] = [
    [/--tls require goes with --tls-certificates or --tls-psk$/, ['--tls', 'require']],
    [/--tls-certificates and --tls-psk go with --tls require/, ['--tls-certificates', certificates]],
    [/--tls-certificates and --tls-psk go with --tls require/, ['--tls', 'off', '--tls-psk', pskFile]],
    [/--tls-verify-peer goes with --tls-certificates/, ['--tls', 'on', '--tls-psk', pskFile, '--tls-verify-peer']],
  ]
  for (const [sentence, args] of CASES) await fails(t, 2, sentence, serve(...args), [main, spare])
})

void t.test('credentials that cannot be used are told before anything is touched', async (t) => {
  const folder = newFolder(t)
  const [main, spare] = [newMain(folder), newSpare(folder)]
  const socket = join(folder, 's')
  const serve = (...args: string[]): string[] => [
    'serve',
    '--main',
    main,
    '--spare',
    spare,
    '--create',
    '--socket',
    socket,
    ...args,
  ]
  for (const supervise of [[], ['--supervise']]) {
    const anonymous = serve('--tls', 'require', '--tls-certificates', credentials.anonymous, ...supervise)
    await fails(t, 1, /server-cert.pem is missing in /, anonymous, [main, spare, socket])
    await fails(
      t,
      1,
      /there is no file .*none with/,
      serve('--tls', 'on', '--tls-psk', join(folder, 'none'), ...supervise),
      [main, spare, socket],
    )
  }
})
