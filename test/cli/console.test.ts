/** `nbd-remap console` without a terminal: scripts, their exit codes, JSON lines, recordings, and connections that are lost. */
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { cli, fails, newFolder, newPair, Serve } from '../support/cli.js'
import { separateHome } from '../support/console.js'
import { GREETING, negotiating, scriptedServer } from '../support/qmp-server.js'
import { typed } from '../support/typed-commands.js'

separateHome(t)

const script = (t: Test, text: string, folder = newFolder(t)): string => {
  const path = join(folder, 'lines')
  writeFileSync(path, text)
  return path
}

void t.test('lines of standard input, of a file and of the command line do the same', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const lines = 'remap-add main-sector=64 sectors=8\nquery-remaps limit=1\nprint $_.remaps[0].main-sector\n'
  const shell = typed(t, newFolder(t), `printf '${lines}' | npx nbd-remap console ${server.controlPath} | tail -1`)
  t.equal(await shell.ended, 0, shell.output())
  t.equal(shell.output(), '64\n')
  const file = script(t, '# what is there\n\nquery-remaps limit=1 # behind a line, too\nprint \\\n  $_.total')
  const fromFile = await cli(t, 'console', server.controlPath, '--script', file)
  t.match(fromFile, { code: 0, stderr: '' })
  t.match(fromFile.stdout, /\n1\n$/)
  const lineByLine = await cli(t, 'console', server.controlPath, '-c', 'query-remaps', '-c', 'print $_.total')
  t.match(lineByLine, { code: 0, stderr: '', stdout: /\n1\n$/ })
})

void t.test('the first line that fails ends a script, unless it is to go on; its number is told', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const file = script(t, 'query-commands\n\nremap-add main-sector=x sectors=1\nprint after\nno-such-command\n')
  const stopped = await cli(t, 'console', server.controlPath, '--script', file)
  t.equal(stopped.code, 1)
  t.equal(stopped.stderr, `nbd-remap: ${file}:3: 'main-sector' is an integer, and 'x' is none (64M, 0x200 are)\n`)
  t.notMatch(stopped.stdout, 'after')
  const went = await cli(t, 'console', server.controlPath, '--script', file, '--keep-going')
  t.equal(went.code, 1)
  t.match(went.stdout, /"after"\n$/)
  t.match(
    went.stderr,
    /:5: nbd-remap: no-such-command: The command no-such-command has not been found \(help shows all\)/,
  )
  const left = await cli(t, 'console', server.controlPath, '-c', 'exit', '-c', 'no-such-command')
  t.match(left, { code: 0, stderr: '', stdout: '' })
})

void t.test('with --json each line is an object: returned, refused, or an event', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const lines = ['remap-add main-sector=0 sectors=8', 'wait REMAP_ADDED', 'set x = 5', 'no-such', 'vars']
  const args = ['--json', '--keep-going', '--events', 'REMAP_*', ...lines.flatMap((line) => ['-c', line])]
  const { code, stdout, stderr } = await cli(t, 'console', `a=${server.controlPath}`, ...args)
  t.equal(code, 1)
  t.match(stderr, 'nbd-remap: a line failed: see standard output\n')
  const objects = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
  t.match(
    objects.filter((object) => 'command' in object),
    [
      { target: 'a', command: 'remap-add', return: { blocks: 1 } },
      { target: 'a', command: 'wait', return: { event: 'REMAP_ADDED', data: { 'main-sector': 0 } } },
      { target: 'a', command: 'no-such', error: { class: 'CommandNotFound', desc: /has not been found/ } },
      { command: 'vars', return: { x: 5 } },
    ],
  )
  t.match(
    objects.filter((object) => 'event' in object),
    [{ target: 'a', event: 'REMAP_ADDED', data: { 'main-sector': 0 }, timestamp: {} }],
  )
})

void t.test('a recording runs again as a script; what had failed stands in it as a comment', async (t) => {
  const [first, second] = [await Serve.start(t, newPair(t)), await Serve.start(t, newPair(t))]
  const recording = join(newFolder(t), 'recording')
  const lines = [
    'use b',
    'set at = 128',
    'remap-ad main-sector=$at',
    'remap-add main-sector=$at sectors=8',
    '@a remap-add {"main-sector": 256, "sectors": 8}',
  ]
  const targets = (servers: Serve[]): string[] =>
    servers.map(({ controlPath }, index) => `${'ab'[index]}=${controlPath}`)
  const given = [
    ...targets([first, second]),
    '--keep-going',
    '--record',
    recording,
    ...lines.flatMap((line) => ['-c', line]),
  ]
  t.equal((await cli(t, 'console', ...given)).code, 1)
  t.equal(statSync(recording).mode & 0o777, 0o600)
  t.match(readFileSync(recording, 'utf8'), /^# failed: remap-ad main-sector=\$at\n# -> .*did you mean remap-add\?/m)
  // Into two fresh servers.
  const fresh = [await Serve.start(t, newPair(t)), await Serve.start(t, newPair(t))]
  const replayed = await cli(t, 'console', ...targets(fresh), '--script', recording)
  t.match(replayed, { code: 0, stderr: '' })
  for (const [index, sector] of [256, 128].entries()) {
    const { remaps } = await fresh[index]!.ask<{ remaps: unknown[] }>('query-remaps')
    t.match(remaps, [{ 'main-sector': sector, sectors: 8 }])
  }
  await fails(t, 2, /--record \S*recording: there is such a file already, and none is overwritten/, [
    'console',
    first.controlPath,
    '--record',
    recording,
    '-c',
    'exit',
  ])
})

void t.test('bad input gets a sentence', async (t) => {
  const { folder } = newPair(t)
  const missing = join(folder, 'none.qmp')
  await fails(t, 1, /cannot connect to .*none\.qmp/, ['console', missing, '-c', 'stop'])
  await fails(t, 2, /missing required argument 'address'/, ['console'])
  await fails(t, 2, /either --command or --script/, ['console', missing, '-c', 'stop', '--script', 'x'])
  await fails(t, 2, /--script \S*none: there is no such file$/, ['console', missing, '--script', join(folder, 'none')])
  const server = await Serve.start(t, newPair(t))
  await fails(t, 2, /two targets cannot both be called a/, [
    'console',
    `a=${server.controlPath}`,
    `a=${server.controlPath}`,
  ])
  const refusals: [string, RegExp][] = [
    ['remap-add main-sector', /'main-sector' is no argument: arguments are key=value/],
    ['remap-add main-sector=1 main-sector=2', /'main-sector' is given twice/],
    ['{"exec": 1}', /a line of JSON is \{"execute": COMMAND/],
    ['print $x', /there is no variable \$x/],
    ['print $_', /there is no \$_ yet/],
    ['remap-add main-sector=', /main-sector= has no value/],
    ['use b', /there is no target 'b', but: nbd-remap/],
    ['hmp info block', /nbd-remap \(nbd-remap 0\.1\.0\) has no human monitor/],
    ['begin', /nbd-remap \(nbd-remap 0\.1\.0\) has no transactions/],
    ['commit', /no transaction is begun/],
    ['wait NOTHING 0', /no such event came within 0 s/],
    ['help remap-ad', /no command or event 'remap-ad'; did you mean remap-add\?/],
    ['output xml', /output pretty\|json/],
  ]
  const file = script(t, refusals.map(([line]) => line).join('\n'))
  const { code, stdout, stderr } = await cli(t, 'console', server.controlPath, '--keep-going', '--script', file)
  t.match({ code, stdout }, { code: 1, stdout: '' })
  const sentences = stderr.trimEnd().split('\n')
  t.equal(sentences.length, refusals.length)
  for (const [index, [, sentence]] of refusals.entries()) t.match(sentences[index], sentence)
})

void t.test('a server that goes away is told, and a reply that is lost may have been carried out', async (t) => {
  const server = await scriptedServer(
    t,
    (socket) => socket.write(GREETING),
    negotiating((socket, { execute, id }) => {
      if (execute === 'crash') socket.destroy()
      else socket.write(`{"return": [], "id": ${String(id)}}\r\n`)
    }),
  )
  const lines = ['crash', 'ask', 'reconnect', 'ask'].flatMap((line) => ['-c', line])
  const { code, stderr, stdout } = await cli(t, 'console', `a=${server.path}`, '--keep-going', ...lines)
  t.equal(code, 1)
  t.match(stderr, /a: .* hung up; whether it carried crash out is not known/)
  t.match(stderr, /a: a is away: .* hung up \(reconnect a dials again\)/)
  t.match(stdout, /^a: connected to QEMU storage daemon 7\.2\.22\n\[\]\n$/)
  const again = await cli(t, 'console', `a=${server.path}`, '--reconnect', '--keep-going', ...lines.slice(0, 4))
  t.match(again.stdout, /^\[\]\n$/, 'with --reconnect the next command waits')
})

void t.test('what is no QMP server is refused at once', async (t) => {
  const server = await scriptedServer(t, (socket) => socket.write('220 mail.example ESMTP\r\n'))
  await fails(t, 1, /does not speak QMP/, ['console', server.path, '-c', 'stop'])
})

void t.test('what qmp-share recorded is a script, too: the commands in it are sent again', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const said = (direction: string, message: object): string =>
    JSON.stringify({ time: '2026-01-01T00:00:00.000Z', direction, client: 1, message })
  const add = { execute: 'remap-add', arguments: { 'main-sector': 8, sectors: 8 }, id: 1 }
  const lines = [
    said('command', { execute: 'qmp_capabilities' }),
    said('reply', { return: {} }),
    said('command', add),
    said('event', { event: 'REMAP_ADDED', data: {}, timestamp: { seconds: 0, microseconds: 0 } }),
    said('reply', { return: { blocks: 1, skipped: 0 }, id: 1 }),
  ]
  const replayed = await cli(t, 'console', server.controlPath, '--script', script(t, lines.join('\n')))
  t.match(replayed, { code: 0, stderr: '', stdout: '{ "blocks": 1, "skipped": 0 }\n' })
  t.match(await server.ask('query-remaps'), { remaps: [{ 'main-sector': 8, sectors: 8 }] })
})
