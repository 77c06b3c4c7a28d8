/** `nbd-remap errors`: the history of the errors of each block, as people and programs see it, and the picture of the disk. */
import t from 'tap'
import { FaultInjector } from '../../qemu/faults.js'
import { StorageDaemon } from '../../qemu/storage-daemon.js'
import { mapOf } from '../../src/cli/top/map.js'
import type { ErrorHistoryReply, ErrorRegionsReply } from '../../src/control/error-commands.js'
import { sector } from '../../src/util/units.js'
import { cli, fails, MANY_PROCESSES_TIMEOUT_MS, newPair, pattern, Serve } from '../support/cli.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

void t.test('errors are listed, drawn and exported, outlive a restart, and begin anew when told to', async (t) => {
  const pair = newPair(t)
  await using daemon = await StorageDaemon.start({ directory: pair.folder, disks: [{ name: 'main', file: pair.main }] })
  const files = { ...pair, main: daemon.uri('main') }
  const server = await Serve.start(t, files)
  await new FaultInjector(daemon, 'main').set([
    { sector: sector(64), operation: 'write' },
    { sector: sector(1027), operation: 'read' },
  ])
  const client = await server.connect()
  await client.write(60 * 512, [pattern(16 * 512, 9)])
  await t.rejects(client.read(1024 * 512, Buffer.alloc(4096)), /NBD_EIO/)
  await client.disconnect()

  const control = ['--control', server.controlPath]
  const said = async (...args: string[]): Promise<string> => {
    const { code, stdout } = await cli(t, 'errors', ...control, ...args)
    t.equal(code, 0, args.join(' '))
    return stdout
  }
  const [head, first, second, sum, ...rest] = (await said()).split('\n')
  t.match(
    head,
    /^ main sector +read-errors write-errors +spare-errors +recovered +slow-reads +timeouts +lost-sectors +outcome +last$/,
  )
  t.match(first, /^ +64( +[01]){2}( +0){5} +remapped +\d{4}-\S+Z$/)
  t.match(second, /^ +1024 +1( +0){5} +1 +lost +\d{4}-\S+Z$/)
  t.match(sum, /^ +in all +1 +1( +0){4} +1$/)
  t.same(rest, [''])
  t.match(
    await said('--limit', '1', '--worst'),
    /^ +1024 .*\n.*in all.*\n\(1 of 2 blocks: see --limit and --from-sector\)$/m,
  )
  t.match(
    await said('--csv', '--from-sector', '72'),
    /^main-sector,sectors,read-errors,[a-z,-]*\n1024,8,1,0,0,0,0,0,1,lost,\S+Z,\S+Z\n$/,
  )
  const history = JSON.parse(await said('--json')) as ErrorHistoryReply
  t.match(history, {
    blocks: [
      { 'main-sector': 64, sectors: 8, 'write-errors': 1, outcome: 'remapped' },
      { 'main-sector': 1024, sectors: 8, 'read-errors': 1, 'lost-sectors': 1, outcome: 'lost' },
    ],
    total: 2,
    dropped: 0,
  })
  t.match(await said('--map'), /^ +0 errors \[\.\.:\.{29}:\.{31}\]\n +remaps \[\.\.\S\.{29}\S\.{31}\]$/m)
  t.match(JSON.parse(await said('--map', '--json')), {
    'region-sectors': 32,
    regions: [
      { 'main-sector': 64, 'write-errors': 1 },
      { 'main-sector': 1024, 'read-errors': 1 },
    ],
  })

  await server.end()
  const next = await Serve.start(t, files, [])
  const kept = JSON.parse(await said('--json')) as ErrorHistoryReply
  const withoutTimes = ({ blocks }: ErrorHistoryReply) => blocks.map((block) => ({ ...block, first: '', last: '' }))
  t.same(withoutTimes(kept), withoutTimes(history))
  await next.ask('reset-stats')
  t.equal((await next.ask<ErrorHistoryReply>('query-error-history')).total, 2)
  await next.ask('reset-stats', { lifetime: true })
  t.same(await next.ask('query-error-history'), { blocks: [], total: 0, dropped: 0 })
  t.match(await next.ask('query-error-regions'), { regions: [], totals: { 'read-errors': 0 } })
  await next.end()
  await Serve.start(t, files, [])
  t.equal((JSON.parse(await said('--json')) as ErrorHistoryReply).total, 0, 'they do not come back')
})

void t.test('wrong usage', async (t) => {
  await fails(t, 2, /--control/, ['errors'])
  await fails(t, 2, /'--map' cannot be used with option '--csv'/, ['errors', '--control', 'x', '--map', '--csv'])
  await fails(t, 1, /no server answers on the control socket/, ['errors', '--control', 'x'])
})

void t.test('the picture of a disk has each region in its place, the fuller the denser', (t) => {
  const counts = { 'write-errors': 0, 'spare-errors': 0, recovered: 0, 'slow-reads': 0, timeouts: 0, 'lost-sectors': 0 }
  const region = (n: number, errors: number) => ({ 'main-sector': n * 32, 'read-errors': errors, ...counts })
  const regions = [region(0, 1), region(63, 2), region(64, 63), region(200, 64), region(255, 1000)]
  const text = mapOf({
    main: { name: 'disk', size: 256 * 32 * 512 },
    regions: { 'region-sectors': 32, regions } as unknown as ErrorRegionsReply,
    remaps: { ranges: [{ 'main-sector': 128 * 32, sectors: 32 }], total: Infinity },
  })
  const strips = [...text.matchAll(/(errors|remaps) \[(.*)\]/g)].map(([, of = '', strip = '']) => `${of} ${strip}`)
  t.same(strips, [
    `errors :${'.'.repeat(62)}-`,
    `remaps ${'.'.repeat(64)}`,
    `errors #${'.'.repeat(63)}`,
    `remaps ${'.'.repeat(64)}`,
    `errors ${'.'.repeat(64)}`,
    `remaps @${'.'.repeat(63)}`,
    `errors ${'.'.repeat(8)}@${'.'.repeat(54)}@`,
    `remaps ${'.'.repeat(64)}`,
  ])
  t.match(text, /^ +4096 errors/m)
  t.match(text, /only the first 1 ranges/)
  t.end()
})
