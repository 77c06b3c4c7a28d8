/** `repair`, `dump`, `export` and `import`, as an operator runs them on a spare that is not being served. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { HEADER_AREA_SIZE, HEADER_OFFSETS, HEADER_SIZE, type Geometry } from '../../src/spare/format.js'
import { cli, digest, fails, MANY_PROCESSES_TIMEOUT_MS, newFolder, pattern, Program, Serve } from '../support/cli.js'
import { REFUSED, scribble, usedPair } from '../support/refusals.js'
import { Terminal } from '../support/terminal.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

void t.test('repair shows, asks, keeps what it replaces, and can be undone', async (t) => {
  const { spare, folder } = await usedPair(t)
  const right = digest(spare)
  for (const offset of [HEADER_OFFSETS[1]!, HEADER_AREA_SIZE]) await scribble(spare, offset + 100, pattern(50))
  const damaged = digest(spare)
  const unasked = await cli(t, 'repair', '--spare', spare)
  t.match(unasked.stdout, /rewrites: header copy 1: checksum does not match\nrewrites: slot page 0, copy 0: /)
  t.match(unasked, { code: 2, stderr: /there is no terminal to ask on: add --yes/ })
  t.equal(digest(spare), damaged, 'nothing was written')
  const repair = new Program(t, ['repair', '--spare', spare, '--yes'], { cwd: folder })
  t.match(await repair.exited, { code: 0 })
  const [, backup = ''] = /^backup: +(.*)\nresult: +intact$/m.exec(repair.stdout) ?? []
  t.match(backup, /^nbd-remap-[0-9a-f]{8}-\d{8}T\d{6}Z\.backup$/)
  t.equal((await cli(t, 'verify', '--spare', spare)).code, 0)
  t.not(digest(spare), right, 'the headers are newer')
  const path = join(folder, backup)
  const undo = await cli(t, 'repair', '--spare', spare, '--restore', path, '--yes', '--json')
  t.match(JSON.parse(undo.stdout), { leftAlone: 0 })
  t.equal(digest(spare), damaged)
  await fails(
    t,
    1,
    /there is such a file already, and none is overwritten/,
    ['repair', '--spare', spare, '--yes', '--json', '--backup', path],
    [spare, path],
  )
})

void t.test('on a terminal repair asks, and only a yes has it done', async (t) => {
  const { spare, folder } = await usedPair(t)
  await scribble(spare, HEADER_OFFSETS[1]! + 100, pattern(50))
  const damaged = digest(spare)
  const backup = join(folder, 'kept')
  const answered = async (answer: string): Promise<number> => {
    const terminal = new Terminal(t, ['repair', '--spare', spare, '--backup', backup])
    await terminal.until(/header copy 1: checksum does not match\r\n.*Rewrite them\? \(yes or no\)/s)
    terminal.type(`${answer}\r`)
    return (await terminal.ended).code
  }
  for (const answer of ['no', '']) {
    t.equal(await answered(answer), 1, `"${answer}" is no yes`)
    t.equal(digest(spare), damaged)
    t.notOk(existsSync(backup))
  }
  t.equal(await answered('yes'), 0)
  t.ok(existsSync(backup))
  t.equal((await cli(t, 'verify', '--spare', spare)).code, 0)
})

void t.test('repair of what is intact or lost writes nothing, and not even a backup', async (t) => {
  const { spare, folder } = await usedPair(t)
  const before = digest(spare)
  t.match(await cli(t, 'repair', '--spare', spare), { code: 0, stdout: /intact, nothing to do/ })
  t.equal(digest(spare), before)
  const dumped = await cli(t, 'dump', '--json', '--spare', spare)
  const { headers } = JSON.parse(dumped.stdout) as { headers: { fields: { geometry: Geometry } }[] }
  const { slotTableOffsets = [] } = headers[0]?.fields.geometry ?? {}
  for (const offset of slotTableOffsets) await scribble(spare, offset + 100, pattern(50))
  const sentence = /1 slot page\(s\) have no intact copy.*nbd-remap import.*nbd-remap repair --help/
  await fails(t, REFUSED, sentence, ['repair', '--spare', spare, '--yes', '--json'], [spare])
  t.same(
    readdirSync(folder).filter((name) => name.endsWith('.backup')),
    [],
  )
  const accepted = ['repair', '--spare', spare, '--yes', '--accept-lost-pages', '--backup', join(folder, 'b')]
  t.match(await cli(t, ...accepted), { code: 0, stdout: /LOST: +slot page 0: .*\n.*\nresult: +intact/ })
  t.ok(existsSync(join(folder, 'b')))
})

void t.test('a spare that is being served is left alone by all of them', async (t) => {
  const pair = await usedPair(t)
  const file = join(newFolder(t), 'x.meta')
  t.equal((await cli(t, 'export', '--spare', pair.spare, file)).code, 0)
  const server = await Serve.start(t, pair, [])
  for (const args of [['repair', '--yes'], ['dump'], ['export', `${file}2`], ['import', '--yes', file]])
    await fails(t, REFUSED, /in use/, [...args, '--spare', pair.spare], [pair.spare])
  await server.end()
})

void t.test('export, and import after everything was overwritten', async (t) => {
  const pair = await usedPair(t)
  const file = join(pair.folder, 'x.meta')
  const exported = await cli(t, 'export', '--spare', pair.spare, file)
  t.match(exported, { code: 0, stdout: /header and \d+ slot pages of .*, 1 remapped and 0 retired blocks/ })
  await fails(
    t,
    1,
    /x.meta cannot be written: there is such a file already/,
    ['export', '--spare', pair.spare, file],
    [file],
  )
  for (const offset of HEADER_OFFSETS) await scribble(pair.spare, offset, Buffer.alloc(HEADER_SIZE))
  t.match(await cli(t, 'import', '--spare', pair.spare, file), { code: 2, stdout: /header: none that can be believed/ })
  const back = await cli(
    t,
    'import',
    '--spare',
    pair.spare,
    '--yes',
    '--json',
    '--backup',
    join(pair.folder, 'b'),
    file,
  )
  t.match(JSON.parse(back.stdout), { newerSlots: 0, objections: [] })
  t.equal((await cli(t, 'verify', '--spare', pair.spare)).code, 0)
  const found = await cli(t, 'scan', pair.main, pair.spare)
  t.match(found, {
    code: 0,
    stdout: /^pair: no clean stop since the last change: .* or it was imported and not started yet$/m,
  })
  const server = await Serve.start(t, pair, [])
  t.match(await server.ask('query-remaps'), { total: 1 })
  await server.ask('remap-add', { 'main-sector': 1600, sectors: 8 })
  await server.end()
  const sentence = /1 slots of .* are newer than those of the file: those remaps would be forgotten.*add --force/
  await fails(t, REFUSED, sentence, ['import', '--spare', pair.spare, '--yes', '--json', file], [pair.spare])
  const damaged = join(pair.folder, 'damaged.meta')
  const bytes = readFileSync(file)
  bytes[9000]! ^= 1
  writeFileSync(damaged, bytes)
  await fails(t, 1, /damaged.meta cannot be used: range 1 is damaged/, [
    ...['import', '--spare', pair.spare, '--yes', '--force', '--json', damaged],
  ])
})

void t.test('dump prints all of it, as text and as JSON', async (t) => {
  const { spare } = await usedPair(t)
  const text = await cli(t, 'dump', '--spare', spare)
  t.equal(text.code, 0)
  t.match(text.stdout, /^header copy 4 at 4194304: in force$/m)
  t.match(text.stdout, /^ {2}slot 0 at \d+: remapped, main block 100 \(sector 800\), generation 1$/m)
  const json = await cli(t, 'dump', '--json', '--spare', spare)
  t.match(JSON.parse(json.stdout), {
    problem: '',
    pages: [{ page: 0, slots: [{ mainSector: 800, state: 'remapped' }] }],
  })
  for (const offset of HEADER_OFFSETS) await scribble(spare, offset + 8, Buffer.alloc(4))
  const damaged = await cli(t, 'dump', '--spare', spare)
  t.match(damaged, { code: 1, stdout: /NO HEADER IS IN FORCE: none of its 5 header copies is intact/ })
  t.match(damaged.stdout, /remapped, main block 100/)
})
