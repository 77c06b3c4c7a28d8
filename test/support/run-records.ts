/** Records of runs that never were: one as a person would tell it, and random ones with texts of the worst kind. */
import { MARK_KINDS, OUTCOMES, type Mark, type Point, type RunRecord } from '../../qemu/report/record.js'
import type { Random } from '../../src/util/random.js'

const SECOND = 1000

/** The server is killed, and comes back 240 ms later. */
export function killedRun(change: Partial<RunRecord> = {}): RunRecord {
  return {
    name: 'server-killed',
    title: 'The server is killed while the guest writes, and the guest goes on',
    seed: '7',
    startedAt: '2026-11-28T12:00:00.000Z',
    durationMs: 12 * SECOND,
    outcome: 'passed',
    checks: [
      { name: 'the guest sees no I/O error', ok: true, detail: '0 errors in its kernel log', atMs: 11 * SECOND },
      { name: 'all files have their checksums', ok: true, detail: '64 of 64', atMs: 11.5 * SECOND },
    ],
    measurements: [
      { name: 'blackout', value: 240, unit: 'ms', limit: 1000 },
      { name: 'requests in flight at the kill', value: 7, unit: '' },
    ],
    series: [
      { lane: 'throughput', name: 'writes', unit: 'MiB/s', points: throughput() },
      {
        lane: 'latency',
        name: 'p99',
        unit: 'ms',
        points: throughput().map(([at, value]) => [at, value && 40 / value]),
      },
    ],
    marks: [
      { atMs: 0, kind: 'step', text: 'boot the guest' },
      { atMs: 3 * SECOND, kind: 'step', text: 'write files' },
      { atMs: 4 * SECOND, kind: 'fault', text: 'write error in sector 2048' },
      { atMs: 4.01 * SECOND, kind: 'remap', text: 'sector 2048 to spare sector 0' },
      { atMs: 6 * SECOND, kind: 'kill', text: 'SIGKILL to the server' },
      { atMs: 6 * SECOND, kind: 'restart', text: 'the next worker serves', durationMs: 240 },
    ],
    ...change,
  }
}

/** The same without nbd-remap. */
export const killedControl = (): RunRecord =>
  killedRun({
    durationMs: 8 * SECOND,
    outcome: 'failed',
    checks: [
      { name: 'the guest sees no I/O error', ok: false, detail: '212 errors in its kernel log', atMs: 7 * SECOND },
      { name: 'all files have their checksums', ok: false, detail: '51 of 64', atMs: 7.5 * SECOND },
    ],
    measurements: [],
  })

function throughput(): Point[] {
  const points = Array.from({ length: 60 }, (_, n): Point => [n * 200, n === 31 ? null : 20 + (n % 7)])
  return points.filter(([at]) => at >= 3 * SECOND)
}

const NASTY = [
  '<script>alert(1)</script>',
  '"\'><img src=x onerror=alert(1)>',
  ']]>',
  '<!--',
  '-->',
  '</script>',
  '</style>',
  '</title>',
  '&amp;&#0;',
  '\u0000\u0001\u001b[31mred\u001b[0m\u007f\u0085\u009f',
  '\ud800',
  '\udfff',
  '\ufffe\uffff',
  '\u202egnirts\u202c',
  '\u2028\u2029',
  'ok 1 - not me',
  '\nnot ok 2\n1..9\nBail out!\n',
  '# TODO',
  '# SKIP',
  '\\',
  '...',
  '---',
  '\t tab \r return \r\n',
  '😀 ünïcödé 語',
  'javascript:alert(1)',
  '{{}} ${x} `y`',
  ' ',
  '',
  '__proto__',
  'https://example.org/x.js',
  'url(https://example.org/x.png)',
]

export function nastyText(random: Random): string {
  const parts = Array.from({ length: random.below(4) }, () => random.pick(NASTY))
  const noise = Array.from({ length: random.below(6) }, () => String.fromCharCode(random.below(0x10000)))
  return random.shuffle([...parts, ...noise]).join(random.pick(['', ' ', '\n']))
}

export function randomRun(random: Random, withControl = true): RunRecord {
  const durationMs = random.below(100_000)
  const at = (): number => random.next() * durationMs
  const some = <T>(most: number, make: () => T): T[] => Array.from({ length: random.below(most + 1) }, make)
  const maybe = <T extends object>(fields: T): T | object => (random.chance(50) ? fields : {})
  return {
    name: nastyText(random),
    title: nastyText(random),
    seed: nastyText(random),
    startedAt: new Date(random.below(2 ** 31) * 1000).toISOString(),
    durationMs,
    outcome: random.pick(OUTCOMES),
    ...maybe({ error: nastyText(random) }),
    checks: some(4, () => ({
      name: nastyText(random),
      ok: random.chance(70),
      atMs: at(),
      ...maybe({ detail: nastyText(random) }),
    })),
    measurements: some(4, () => ({
      name: nastyText(random),
      value: random.pick([0, -1, NaN, 1e12, 0.001, random.next() * 1000]),
      unit: nastyText(random),
      ...maybe({ limit: random.below(1000) }),
    })),
    series: some(3, () => ({
      lane: nastyText(random),
      name: nastyText(random),
      unit: nastyText(random),
      points: some(30, at)
        .sort((a, b) => a - b)
        .map((ms): Point => [ms, random.chance(90) ? random.next() * 10 ** random.below(9) : null]),
    })),
    marks: some(30, (): Mark => ({
      atMs: at(),
      kind: random.pick(MARK_KINDS),
      text: nastyText(random),
      ...maybe({ durationMs: random.below(500) }),
    })),
    ...(withControl ? maybe({ control: randomRun(random, false) }) : {}),
  }
}
