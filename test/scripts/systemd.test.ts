/** The units of scripts/systemd: systemd takes them, and what they start exists. */
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { serveCommand } from '../../src/cli/serve.js'
import { newFolder, newPair, Program, PROGRAM } from '../support/cli.js'
import { ROOT } from '../support/documents.js'
import { requireTool } from '../support/tools.js'

const unit = (kind: 'service' | 'socket'): string =>
  readFileSync(join(ROOT, `scripts/systemd/nbd-remap@.${kind}`), 'utf8')

/** The values of a setting, in any section. */
const settings = (text: string, name: string): string[] =>
  [...text.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map(([, value = '']) => value)

/** The command of the service, without the program. */
function startArguments(): string[] {
  const [start = ''] = settings(unit('service'), 'ExecStart')
  const [program, ...args] = start.split(' ')
  t.match(program, /^\/\S+\/nbd-remap$/)
  return args
}

void t.test('the service starts serve with options that it has, and a configuration for each instance', (t) => {
  const [command, ...args] = startArguments()
  t.equal(command, 'serve')
  const options = serveCommand().options.map(({ long }) => long)
  for (const option of args.filter((word) => word.startsWith('--'))) t.ok(options.includes(option), option)
  t.same(args.slice(args.indexOf('--config'), args.indexOf('--config') + 2), ['--config', '/etc/nbd-remap/%i.conf'])
  t.match(settings(unit('service'), 'ExecReload')[0], /kill -HUP \$MAINPID$/)
  const [directory = ''] = settings(unit('service'), 'RuntimeDirectory')
  for (const path of [args[args.indexOf('--control') + 1], ...settings(unit('socket'), 'ListenStream')])
    t.match(path, new RegExp(`^/run/${directory}/%i\\.`), 'it can write there')
  t.end()
})

void t.test('the command of the service starts a server', async (t) => {
  const { folder, main, spare } = newPair(t)
  writeFileSync(join(folder, 'one.conf'), `main: ${main}\nspare: ${spare}\ncreate: true\nsocket: ${folder}/one.sock\n`)
  const args = startArguments().map((word) => word.replace(/^\/(etc|run)\/nbd-remap/, folder).replaceAll('%i', 'one'))
  const server = new Program(t, args)
  await server.until(() => server.stdout.includes('\n'), 'it printed its URI')
  t.equal(server.stdout, `nbd+unix:///one?socket=${folder}/one.sock\n`)
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test('systemd accepts the units, and finds the service well confined', (t) => {
  requireTool('systemd-analyze')
  const folder = newFolder(t)
  const files = (['service', 'socket'] as const).map((kind) => {
    const path = join(folder, `nbd-remap@one.${kind}`)
    writeFileSync(path, unit(kind).replace(/^ExecStart=\S+/m, `ExecStart=${PROGRAM}`))
    return path
  })
  const verified = spawnSync('systemd-analyze', ['verify', '--man=no', ...files], { encoding: 'utf8' })
  t.equal(verified.stderr + verified.stdout, '')
  t.equal(verified.status, 0)
  const judged = spawnSync('systemd-analyze', ['security', '--offline=true', files[0] ?? ''], { encoding: 'utf8' })
  const [, level] = /Overall exposure level for \S+: ([\d.]+)/.exec(judged.stdout) ?? []
  t.ok(Number(level) < 3, `exposure ${level ?? '?'} of 10`)
  t.end()
})
