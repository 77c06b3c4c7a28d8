/** `nbd-remap top` on a terminal, and the picture that it draws. */
import { constants } from 'node:os'
import t, { type Test } from 'tap'
import { heatStrip, sectorsPerCell } from '../../src/cli/top/heat.js'
import { ratesBetween } from '../../src/cli/top/rates.js'
import { linesOf, type Picture } from '../../src/cli/top/view.js'
import type { StatisticsReply } from '../../src/control/statistics-commands.js'
import { fails, newPair, pattern, Serve, type PairFiles } from '../support/cli.js'
import { Terminal } from '../support/terminal.js'

/** The alternate screen is left, and the cursor is back. */
const LEFT = /\u001b\[\?25h\u001b\[\?1049l[^\u001b]*$/

const start = (t: Test, server: Serve): Terminal =>
  new Terminal(t, ['top', '--control', server.controlPath, '--interval', '0.05'])

void t.test('top shows a server, its remaps and its events, and q quits', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const client = await server.connect()
  const top = start(t, server)
  await top.until(/disk: running, up [\d:]+/)
  await top.until(/\[\.{77}\]/)
  await client.write(0, [pattern(8192)])
  await top.until(/writes +\d+ [^\n]* 1\b/)
  // The first of 8192 sectors.
  await server.ask('remap-add', { 'main-sector': 0, sectors: 8 })
  await top.until(/\[[^.]\.{76}\]/)
  await top.until(/REMAP_ADDED main-sector=0/)
  top.type('q')
  t.same(await top.ended, { code: 0, restored: true })
  t.match(top.output, LEFT)
  await client.disconnect()
})

void t.test('top fits into the terminal, whatever its size becomes, and no name steers it', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', '--name', 'x\u001b[2J'])
  const top = start(t, server)
  const bySize: [number, number, RegExp][] = [
    [80, 24, /\[\.{77}\]/],
    [120, 40, /\[\.{117}\]/],
    // Its first line is cut.
    [40, 10, /^\u001b\[1mx\?\[2J: running, up [\d:]+, health \d+ ?\u001b\[0m/],
  ]
  for (const [columns, rows, pattern] of bySize) {
    top.resize(columns, rows)
    const frame = await top.frame(pattern)
    t.ok(frame.split('\r\n').length <= rows, `${rows} rows`)
  }
  top.type('\u0003')
  t.same(await top.ended, { code: 130, restored: true })
})

void t.test('top waits for a server that goes away, and shows the next one', async (t) => {
  const pair = newPair(t)
  const server = await Serve.start(t, pair)
  const top = start(t, server)
  await top.until(/disk: running/)
  await server.end()
  await top.until(/disk: AWAY.*\n?.*no answer, trying again/s)
  top.forget()
  await Serve.start(t, pair)
  await top.until(/disk: running/)
  top.signal(constants.signals.SIGTERM)
  t.same(await top.ended, { code: 128 + constants.signals.SIGTERM, restored: true })
  t.match(top.output, LEFT)
})

void t.test('a server that does not answer does not hold up the end', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const top = start(t, server)
  await top.until(/disk: running/)
  server.child.kill('SIGSTOP')
  top.type('q')
  t.same(await top.ended, { code: 0, restored: true })
  server.child.kill('SIGCONT')
})

void t.test('without a terminal top says what else there is; without a server, why', async (t) => {
  await fails(t, 2, /top needs a terminal; nbd-remap status --watch 1/, ['top', '--control', 'x'])
  const { folder }: PairFiles = newPair(t)
  const top = new Terminal(t, ['top', '--control', `${folder}/none.qmp`])
  t.same(await top.ended, { code: 1, restored: true })
  t.match(top.output, /^nbd-remap: no server answers on the control socket/)
})

const LATENCIES = ['read', 'write', 'flush', 'trim', 'write-zeroes'] as const

/** So many reads of this length each, in so many seconds of which each read took a share. */
const statistics = (reads: number, seconds: number, histogram: StatisticsReply['latency'][number]['histogram'] = []) =>
  ({
    ...Object.fromEntries(['writes', 'flushes', 'trims', 'write-zeroes', 'bytes-written'].map((name) => [name, 0])),
    reads,
    'bytes-read': reads * 4096,
    'uptime-seconds': seconds,
    latency: LATENCIES.map((operation) => ({ operation, histogram, 'max-us': 0 })),
  }) as unknown as StatisticsReply

void t.test('rates are those since the look before, and begin anew with a server', (t) => {
  const slow = { 'from-us': 8000, 'below-us': 9000, count: 100 }
  const before = statistics(100, 10, [slow])
  const now = statistics(300, 12, [{ 'from-us': 100, 'below-us': 104, count: 200 }, slow])
  const rates = ratesBetween(before, now)
  t.equal(rates.of('reads'), 100)
  t.equal(rates.of('bytes-read'), 409_600)
  const { half = 0, most = 0 } = rates.latency('read') ?? {}
  t.ok(half > 100 && half < most && most < 104, 'the slow ones were before')
  t.equal(ratesBetween(now, now).latency('read'), undefined)
  t.equal(ratesBetween(undefined, now).of('reads'), 0)
  t.equal(ratesBetween(now, before).of('reads'), 0, 'a clock that went back')
  t.end()
})

void t.test('a single remapped sector shows in the strip, at its place, and a cell that is full is denser', (t) => {
  const sectors = 80_000
  const strip = (...ranges: [number, number][]): string => {
    const remaps = ranges.map(([first, count]) => ({ 'main-sector': first, sectors: count }))
    return heatStrip(sectorsPerCell(remaps, sectors, 8), sectors)
  }
  t.equal(strip(), '........')
  t.equal(strip([10_000, 1]), '.:......')
  t.equal(strip([20_000, 10_000]), '..@.....')
  t.equal(strip([15_000, 10_000]), '.##.....', 'a range that lies in two cells')
  t.equal(strip([79_999, 1], [0, 1]), ':......:')
  t.end()
})

void t.test('the picture has no more lines than there are rows, and events take what is left', (t) => {
  const spare = { name: 'spare', 'total-blocks': 10, 'free-blocks': 5, 'retired-blocks': 0, 'lost-blocks': 0 }
  const clients = Array.from({ length: 30 }, (_, id) => ({ id, address: 'unix', since: '', 'requests-in-flight': 0 }))
  const status = {
    'export-name': 'd',
    'started-at': 'then',
    status: 'running',
    main: { name: 'm', size: 2 ** 30 },
    spares: [spare],
    clients,
  }
  const counts = { 'write-errors': 0, 'spare-errors': 0, 'slow-reads': 0, timeouts: 0 }
  const errors = { 'region-sectors': 2 ** 13, regions: [{ 'main-sector': 2 ** 13, 'read-errors': 1, ...counts }] }
  const event = { event: 'IO_ERROR', data: { disk: 'main' }, timestamp: { seconds: 0, microseconds: 0 } }
  const picture = {
    now: { status, table: {}, errors, statistics: statistics(1, 1), health: { score: 75, trend: 'worse' } },
    before: undefined,
    trouble: undefined,
    ranges: [],
    hasMoreRanges: false,
    events: Array.from({ length: 100 }, () => event),
  } as unknown as Picture
  const text = ({ now, ...more }: Picture): string => {
    const stalled = { ...now, status: { ...now.status, 'data-plane': 'stalled' as const } }
    return linesOf({ ...more, now: stalled }, { columns: 80, rows: 24 })
      .map((line) => line.text)
      .join('\n')
  }
  t.match(text(picture), /^d: STALLED: a disk hangs, up 00:00:01, health 75 \(worse\)/)
  t.match(text({ ...picture, trouble: 'nobody is there' }), /^d: AWAY, up 00:00:01.*\nnobody is there\n/)
  t.match(text(picture), /^E\[:\.{76}\]$/m)
  t.match(text({ ...picture, hasMoreRanges: true }), /only the first 0 ranges/)
  for (const rows of [5, 24, 60]) {
    const lines = linesOf(picture, { columns: 80, rows })
    t.equal(lines.length, rows)
    if (rows > 5) t.match(lines.at(-1)?.text, /IO_ERROR disk=main/)
  }
  t.end()
})
