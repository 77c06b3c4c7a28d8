/** Several spares, as an operator has them: given, listed, added, removed, and found again after a crash. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import t from 'tap'
import { cli, fails, MANY_PROCESSES_TIMEOUT_MS, newPair, newSpare, Serve } from '../support/cli.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

interface Spares {
  spares: { name: string; uuid: string; state: string; 'remapped-blocks': number; 'free-blocks': number }[]
}

void t.test('two spares are formatted together, listed, and missed when one of them is away', async (t) => {
  const pair = newPair(t)
  const other = newSpare(pair.folder, 'other.img')
  const both = ['--spare', pair.spare, '--spare', other]
  const formatted = await cli(t, 'format', '--main', pair.main, ...both)
  t.equal(formatted.stdout, `${pair.spare}, ${other}: formatted as the spares of ${pair.main}\n`)
  // The other one is found where it was last.
  const server = await Serve.start(t, pair, [])
  const list = await cli(t, 'spare', 'list', '--control', server.controlPath)
  t.match(list.stdout, /^state +blocks +free +remapped +retired +lost +uuid +spare\n/)
  t.match(list.stdout, new RegExp(`^active .* ${pair.spare}\nactive .* ${other}\n`, 'm'))
  await server.end()
  rmSync(other)
  const args = ['serve', '--main', pair.main, '--spare', pair.spare, '--socket', join(pair.folder, 'x.sock')]
  await fails(t, 3, /spare [0-9a-f]{32} of the pool is missing.*last seen at .*other\.img.*--spare/, args, [pair.spare])
})

void t.test(
  'a spare that is added survives a crash of the server, and one that is removed is not missed',
  async (t) => {
    const pair = newPair(t)
    const server = await Serve.start(t, pair)
    const control = ['--control', server.controlPath]
    await server.ask('remap-add', { 'main-sector': 800, sectors: 80 })
    mkdirSync(join(pair.folder, 'disks'))
    const other = newSpare(pair.folder, 'disks/other.img')
    const added = await cli(t, 'spare', 'add', ...control, relative(process.cwd(), other), '--json')
    t.equal(added.code, 0, added.stderr)
    t.match(JSON.parse(added.stdout), { name: other, state: 'active' })
    const taken = newSpare(pair.folder, 'data.img')
    writeFileSync(taken, 'data', { flag: 'r+' })
    await fails(t, 1, /is not blank .* --force/, ['spare', 'add', ...control, taken], [taken])
    await fails(t, 1, /is a spare of this pool already/, ['spare', 'add', ...control, other])
    await server.end('SIGKILL')

    const again = await Serve.start(t, pair, [], 'b')
    const { spares } = await again.ask<Spares>('query-spares')
    t.match(spares, [{ name: pair.spare, 'remapped-blocks': 10 }, { name: other }])
    const before = await again.read(800 * 512, 80 * 512)
    const removed = await cli(t, 'spare', 'remove', '--control', again.controlPath, pair.spare)
    t.match(removed, { code: 0, stdout: `${pair.spare} is removed: 10 blocks moved to other spares\n` })
    t.same(await again.read(800 * 512, 80 * 512), before)
    await fails(t, 1, /is the only one: add another one first/, [
      'spare',
      'remove',
      '--control',
      again.controlPath,
      other,
    ])
    await fails(t, 1, /there is no spare nosuch/, ['spare', 'remove', '--control', again.controlPath, 'nosuch'])
    await again.end('SIGKILL')

    rmSync(pair.spare)
    const last = await Serve.start(t, { ...pair, spare: other }, ['--spare', pair.spare], 'c')
    t.match(last.stderr, /was removed from the pool, and is not needed/)
    t.same(await last.read(800 * 512, 80 * 512), before)
    t.match(await last.end(), { code: 0 })
  },
)

void t.test('--create adds the spares that are blank to the one that is not', async (t) => {
  const pair = newPair(t)
  await (await Serve.start(t, pair)).end()
  const other = newSpare(pair.folder, 'other.img')
  const server = await Serve.start(t, pair, ['--spare', other, '--create'], 'b')
  t.equal((await server.ask<Spares>('query-spares')).spares.length, 2)
  await server.end()
})

void t.test('--spare-low says when few blocks are left', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', '--spare-low', '100'])
  await server.ask('remap-add', { 'main-sector': 0, sectors: 8 })
  await server.until(() => server.stderr.includes('SPARE_LOW'), 'it said so')
  await server.end()
})
