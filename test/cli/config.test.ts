/** `serve --config`: what the file says, what the command line says against it, and what changes while clients go on. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ConfigFile } from '../../src/cli/config-file.js'
import { serveCommand } from '../../src/cli/serve.js'
import type { NbdClient } from '../../src/nbd/client.js'
import { cli, fails, newPair, pattern, Program, Serve } from '../support/cli.js'

const BLOCK = 4096

void t.test('options come from the file, and those of the command line count more', async (t) => {
  const { folder, main, spare } = newPair(t)
  const config = join(folder, 'disk.conf')
  writeFileSync(
    config,
    `# a comment
main: ${main}
spare: [${spare}]
create: true
supervise: false
name: from-the-file
listen: 127.0.0.1:1
table-min-buckets: 128
limit:
  clientsMax: 5
  optionsMax: 100
control:
  - ${folder}/a.qmp
`,
  )
  const arguments_ = ['serve', '--config', config, '--name', 'given', '--socket', `${folder}/a.sock`]
  const server = new Program(t, arguments_)
  await server.until(() => server.stdout.includes('\n'), 'it printed its URI')
  t.equal(server.stdout, `nbd+unix:///given?socket=${folder}/a.sock\n`)
  const { stdout } = await cli(t, 'table', '--control', `${folder}/a.qmp`)
  t.match(stdout, /^min-buckets +128$/m)
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test('an option whose value may be left out is true, or has one', (t) => {
  const { options } = serveCommand()
  const standby = (text: string): unknown => new ConfigFile('disk.conf').parse(text, options).get('standby')?.value
  t.equal(standby('standby: true'), true)
  t.equal(standby('standby: false'), undefined)
  t.equal(standby('standby: other.qmp'), 'other.qmp')
  t.end()
})

void t.test('a mistake in the file is named with its line', (t) => {
  const { options } = serveCommand()
  const cases: [string, RegExp][] = [
    ['sockt: a', /disk\.conf, line 3: there is no option 'sockt'/],
    ['--socket: a', /line 3: there is no option '--socket'/],
    ['\n\nread-only: maybe', /line 5: 'read-only' must be true or false/],
    ['on-read-error: guess', /line 3: 'on-read-error: guess': Allowed choices are eio, zero/],
    ['spare-low: many', /line 3: 'spare-low: many': It must be a number of percent/],
    ['name: [a, b]', /line 3: 'name' takes one value/],
    ['name:', /line 3: 'name' has no value/],
    ['name: *other', /line 3: /],
    ['limit: {clientMax: 3}', /line 3: 'limit: clientMax=3': There is no limit clientMax/],
    ['socket: a\nlisten: :1', /line 3: 'socket' does not go with 'listen' of line 4/],
    ['name: a\nname: b', /line 4: .*unique/],
    ['name: "a', /line 3: Missing closing "quote/],
    ['just words', /line 3: /],
  ]
  for (const [text, sentence] of cases) {
    const all = `main: main.img\nspare: spare.img\n${text}`
    t.throws(() => new ConfigFile('disk.conf').parse(all, options), { name: 'UsageError', message: sentence }, text)
  }
  const words = (): unknown => new ConfigFile('disk.conf').parse('just words', options)
  t.throws(words, { message: 'disk.conf, line 1: it must be lines of the form "option: value"' })
  t.equal(new ConfigFile('disk.conf').parse('# nothing\n', options).size, 0)
  t.end()
})

void t.test('a file that cannot be used is wrong usage, and touches nothing', async (t) => {
  const { folder, main, spare } = newPair(t)
  const config = join(folder, 'disk.conf')
  const cases: [string, RegExp][] = [
    [`main: ${main}\nspare: ${spare}\nconfig: other.conf`, /disk\.conf, line 3: there is no option 'config'/],
    [`main: ${main}`, /required option '--spare <spare>' not specified, and \S+disk\.conf does not have it/],
    [`main: ${main}\nspare: ${spare}\ntable-grow-load: 10`, /at most half of the load to grow at/],
    [`main: ${main}\nspare: ${spare}\n# ${'x'.repeat(70_000)}`, /more than 65536 bytes/],
  ]
  for (const [text, sentence] of cases) {
    writeFileSync(config, text)
    await fails(t, 2, sentence, ['serve', '--config', config], [main, spare])
  }
  await fails(t, 2, /none\.conf cannot be read: there is no such file \(--config takes a file/, [
    'serve',
    '--config',
    join(folder, 'none.conf'),
  ])
  await fails(t, 2, /cannot be read: it is a folder, not a file/, ['serve', '--config', folder])
})

interface Reloaded {
  readonly changed: readonly string[]
  readonly 'needs-restart': readonly string[]
}

/** Writes and reads back until it is told to stop. @returns how often; rejects when a request failed */
function traffic(client: NbdClient): { stop: () => Promise<number> } {
  let isWanted = true
  const running = (async () => {
    let rounds = 0
    for (; isWanted; rounds++) {
      const data = pattern(BLOCK, rounds)
      const back = Buffer.alloc(BLOCK)
      await client.write((1 + (rounds % 100)) * BLOCK, [data])
      await client.read((1 + (rounds % 100)) * BLOCK, back)
      if (!back.equals(data)) throw new Error(`round ${rounds}: other data`)
    }
    return rounds
  })()
  running.catch(() => undefined)
  return {
    stop: () => {
      isWanted = false
      return running
    },
  }
}

void t.test('reload changes what can be changed while a client goes on, and names the rest', async (t) => {
  const pair = newPair(t)
  const config = join(pair.folder, 'disk.conf')
  writeFileSync(config, 'spare-low: 5\n')
  const server = await Serve.start(t, pair, ['--create', '--config', config])
  const client = await server.connect()
  const load = traffic(client)
  // Its first block is lost.
  await server.ask('remap-add', { 'main-sector': 0, sectors: 8, lost: true })
  const reader = await server.connect()
  const block = Buffer.alloc(BLOCK, 1)
  await t.rejects(reader.read(0, block), /EIO/)

  writeFileSync(
    config,
    `spare-low: 100
on-read-error: zero
read-retries: 1
slow-read: 3
stop-timeout: 50
on-exhausted: pause
verbose: true
table-min-buckets: 1024
limit: { clientsMax: 2 }
io-timeout: 30
`,
  )
  const reloaded = JSON.parse((await cli(t, 'reload', '--control', server.controlPath, '--json')).stdout) as Reloaded
  t.same([...reloaded.changed].sort(), [
    'limit',
    'on-exhausted',
    'on-read-error',
    'read-retries',
    'slow-read',
    'spare-low',
    'stop-timeout',
    'table-min-buckets',
    'verbose',
  ])
  t.same(reloaded['needs-restart'], ['io-timeout'])
  await reader.read(0, block)
  t.ok(block.equals(Buffer.alloc(BLOCK)), 'lost sectors read as zeros now')
  t.match(await server.ask('query-remap-table'), { 'min-buckets': 1024, buckets: 1024 })
  await t.rejects(server.connect(), 'two clients are there already')
  await server.ask('remap-add', { 'main-sector': 4096, sectors: 8 })
  // Less than all of the spare is free.
  await server.says(/SPARE_LOW/)

  writeFileSync(config, 'spare-low: 5\nlimit: { clientsMax: 3 }\n')
  server.child.kill('SIGHUP')
  const reloads = (): number => server.stderr.split('configuration reloaded: changed: ').length - 1
  await server.until(() => reloads() === 2, 'SIGHUP was heard')
  t.match(await server.ask('query-remap-table'), { 'min-buckets': 64 }, 'what is absent is back at its default')
  const third = await server.connect()
  await third.disconnect()
  const again = await cli(t, 'reload', '--control', server.controlPath)
  t.equal(again.stdout, 'nothing changed\n')

  writeFileSync(config, 'spare-low: 7\nspare-high: 1\n')
  await fails(t, 1, /disk\.conf, line 2: there is no option 'spare-high'/, ['reload', '--control', server.controlPath])
  server.child.kill('SIGHUP')
  await server.until(() => server.stderr.includes('the configuration is not reloaded'), 'it says so')

  t.ok((await load.stop()) > 0)
  await client.flush()
  await reader.disconnect()
  await client.disconnect()
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test('the next worker has what is in force, and not what the file says by then', async (t) => {
  const pair = newPair(t)
  const config = join(pair.folder, 'disk.conf')
  writeFileSync(config, 'table-min-buckets: 128\n')
  const server = await Serve.start(t, pair, ['--create', '--config', config, '--supervise'])
  writeFileSync(config, 'table-min-buckets: 256\n')
  server.child.kill('SIGHUP')
  await server.until(() => server.stderr.includes('changed: table-min-buckets'), 'the worker has reloaded')
  writeFileSync(config, 'nonsense\n')
  const { pid } = await server.ask<{ pid: number }>('query-status')
  process.kill(pid, 'SIGKILL')
  await server.until(() => server.stderr.includes('the next one takes over'), 'the supervisor has seen it')
  const next = await server.connect()
  t.match(await server.ask('query-remap-table'), { 'min-buckets': 256 })
  await next.disconnect()
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test('without a configuration there is nothing to reload', async (t) => {
  const server = await Serve.start(t, newPair(t))
  await fails(t, 1, /started without --config: there is nothing to reload/, ['reload', '--control', server.controlPath])
})
