import { join } from 'node:path'
import t from 'tap'
import { NbdClient } from '../../src/nbd/client.js'
import { makeCredentials, overTls } from '../support/certificates.js'
import { MAIN_SIZE, Serve, fails, newFolder, newMain, newPair, newSpare } from '../support/cli.js'
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
  t.match(server.stderr, /client 2 \(unix\) uses TLSv1.3/)
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
