/** `nbd-remap inject`, and the options of `serve` for faults. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { NbdServerError } from '../../src/nbd/client-errors.js'
import { SECTOR_SIZE } from '../../src/util/units.js'
import { cli, fails, newPair, Serve } from '../support/cli.js'

void t.test('a server without fault injection says how to start one', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const inject = ['inject', '--control', server.controlPath]
  const sentence =
    /started without fault injection: start it with serve --fault-injection, --faults FILE or --fault-seed/
  await fails(t, 1, sentence, [...inject, '--sector', '8'])
  await fails(t, 1, sentence, [...inject, '--log'])
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test('a rule comes, strikes, is shown, and goes', async (t) => {
  const files = newPair(t)
  const server = await Serve.start(t, files, ['--create', '--fault-seed', '7'])
  t.match(server.stderr, /warn {2}faults can be injected; to repeat this run: --fault-seed 7/)
  const inject = (...args: string[]) => cli(t, 'inject', '--control', server.controlPath, ...args)
  t.match(await inject('--list'), { code: 0, stdout: 'no rules; seed 7\n' })
  t.match(await inject('--log'), { code: 0, stdout: 'nothing was struck yet\n' })
  t.match(await inject('--sectors', '800-807,1000', '--operations', 'read', '--id', 'scratch'), {
    code: 0,
    stdout: `scratch: error, active\n  main ${files.main}: 9 sectors (800-807, 1000); struck 0 of 0 requests\n`,
  })
  t.match(await inject('--clusters', '2', '--effect', 'delay', '--delay-ms', '1'), {
    code: 0,
    stdout: /^fault-1: delay/,
  })
  await t.rejects(server.read(1000 * SECTOR_SIZE, SECTOR_SIZE), NbdServerError)
  t.match(await inject('--list'), { stdout: /struck [1-9]\d* of [1-9]\d* requests/ })
  const log = /^1 {2}2\S+Z {2}scratch {2}main read 512000\+512: error EIO\n2 {2}/
  t.match(await inject('--log'), { code: 0, stdout: log })
  const json = JSON.parse((await inject('--log', '--since', '1', '--json')).stdout) as { entries: object[] }
  t.match(json.entries[0], { number: 2, rule: 'scratch', effect: 'error' })
  t.match(await inject('--clear', 'scratch'), { code: 0, stdout: 'cleared scratch\n' })
  t.match(await inject('--clear'), { code: 0, stdout: 'cleared fault-1\n' })
  t.match(await inject('--clear'), { code: 0, stdout: 'there was no rule\n' })
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test('rules come from a file, and bad sectors from the lists of other programs', async (t) => {
  const files = newPair(t)
  const server = await Serve.start(t, files, ['--create', '--fault-injection'])
  const inject = (...args: string[]) => cli(t, 'inject', '--control', server.controlPath, ...args)
  const file = (name: string, text: string): string => {
    writeFileSync(join(files.folder, name), text)
    return join(files.folder, name)
  }
  const bad = file('bad.txt', '400\n401\n500\n')
  t.match(await inject('--from', bad, '--operations', 'write'), {
    code: 0,
    stdout: /6 sectors \(800-803, 1000-1001\)/,
  })
  const map = file('disk.map', '0x0 + 1\n0x0 0x80000 +\n0x80000 0x400 -\n')
  t.match(await inject('--from', map), { code: 0, stdout: /2 sectors \(1024-1025\)/ })
  const rules = file(
    'rules.json',
    JSON.stringify([
      { id: 'a', 'map-file': 'bad.txt' },
      { id: 'b', sector: 1 },
    ]),
  )
  t.match(await inject('--from', rules), { code: 0, stdout: /^a: error, active\n.*6 sectors.*\nb: error, active\n/s })
  await fails(t, 1, /there is a rule 'a' already/, ['inject', '--control', server.controlPath, '--from', rules])
  await fails(t, 2, /--map-file .* is not a file/, [
    ...['inject', '--control', server.controlPath, '--map-file', files.folder],
  ])
  const yaml = file('rules.yaml', 'rules:\n  - { id: y, sectors: [5, "7-8"], operations: [write] } # of the journal\n')
  t.match(await inject('--from', yaml), { code: 0, stdout: /^y: error, active\n.*3 sectors \(5, 7-8\)/ })
  await fails(t, 2, /--from .*bad\.yaml: .* at line 1, column/, [
    ...['inject', '--control', server.controlPath, '--from', file('bad.yaml', 'rules: [')],
  ])
  const wrong = file('wrong.json', '{"rules": [{"sector": 1}, {"sektor": 1}]}')
  await fails(t, 2, /--from .*wrong\.json: Parameter 'rules\[1\]\.sektor' is unexpected/, [
    ...['inject', '--control', server.controlPath, '--from', wrong],
  ])
  const names = (text: string): string => file('list', text)
  for (const [sentence, path] of [
    [/--from \S*none: there is no such file$/, join(files.folder, 'none')],
    [/--from \S*: it is a folder, not a file$/, files.folder],
    [/--from \S*list: it names no sector$/, names('')],
    [/--from \S*words, line 2: block number "many" is not a whole number/, file('words', '400\nmany\n')],
    [/--from \S*cut\.json: it is not JSON .* ends in \.yaml$/, file('cut.json', '{"rules": [')],
  ] as const)
    await fails(t, 2, sentence, ['inject', '--control', server.controlPath, '--from', path])
  const missing = ['inject', '--control', server.controlPath, '--map-file', join(files.folder, 'none')]
  await fails(t, 2, /--map-file \S*none: there is no such file$/, missing)
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test('what does not go together is wrong usage', async (t) => {
  const inject = ['inject', '--control', '/nowhere.qmp']
  await fails(t, 2, /say what is to fail/, inject)
  await fails(t, 2, /'count' goes with 'sector'/, [...inject, '--count', '5'])
  await fails(t, 2, /'delay-ms' goes with the effect delay or ageing/, [...inject, '--delay-ms', '5'])
  await fails(t, 2, /--sector is of a rule, and does not go with --clear/, [...inject, '--clear', '--sector', '5'])
  await fails(t, 2, /--since goes with --log/, [...inject, '--since', '5'])
  await fails(t, 2, /Allowed choices are main, spare/, [...inject, '--disk', 'floppy'])
  await fails(t, 1, /no server answers on the control socket/, [...inject, '--sector', '5'])
})

void t.test(
  'serve --faults: in force from the first request on; a bad file is refused before anything is written',
  async (t) => {
    const files = newPair(t)
    const path = join(files.folder, 'faults.json')
    const serve = (rules: unknown): string[] => {
      writeFileSync(path, typeof rules === 'string' ? rules : JSON.stringify(rules))
      const disks = ['--main', files.main, '--spare', files.spare, '--create']
      return ['serve', ...disks, '--socket', join(files.folder, 'x.sock'), '--faults', path]
    }
    const disks = [files.main, files.spare]
    await fails(t, 2, /--faults \S*faults\.json: it is not JSON/, serve('{"rules": [}'), disks)
    await fails(t, 2, /faults\.json: .*'rules\[0\]\.colour' is unexpected/, serve([{ colour: 'red' }]), disks)
    await fails(t, 2, /sector 9999999 is beyond the end of main .* has 8192/, serve([{ sector: 9999999 }]), disks)
    serve({
      seed: 'of the file',
      rules: [
        { id: 'a', sector: 8, operations: ['read'] },
        { disk: 'spare-metadata', percent: 1 },
      ],
    })
    const server = await Serve.start(t, files, ['--create', '--faults', path])
    t.match(server.stderr, /--fault-seed of the file/)
    t.match(await cli(t, 'inject', '--control', server.controlPath, '--list'), {
      stdout: /^a: error, active\n.*\nfault-1: error, active\n {2}spare /,
    })
    await t.rejects(server.read(8 * SECTOR_SIZE, SECTOR_SIZE), NbdServerError)
    t.same(await server.end(), { code: 0, signal: null })
  },
)
