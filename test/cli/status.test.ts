/** `nbd-remap status` of a real server: as JSON by its schema, as CSV, in a line, and for people. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import t from 'tap'
import { formatUs } from '../../src/cli/status-text.js'
import type { StatusDocument } from '../../src/cli/status-document.js'
import { packageRoot } from '../../src/cli/package-version.js'
import { cli, fails, newPair, pattern, Program, Serve, type Exit } from '../support/cli.js'

interface Shown extends Exit {
  readonly stdout: string
  readonly stderr: string
}

void t.test('status says the same in all its forms', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const client = await server.connect()
  await client.write(0, [pattern(8192)])
  await client.read(0, Buffer.alloc(512))
  await server.ask('remap-add', { 'main-sector': 0, sectors: 24 })
  const show = (...args: string[]): Promise<Shown> => cli(t, 'status', '--control', server.controlPath, ...args)

  const json = await show('--json')
  const status = JSON.parse(json.stdout) as StatusDocument
  const validate = new Ajv2020({ strict: true, allErrors: true }).compile(
    JSON.parse(readFileSync(join(packageRoot(), 'docs/status.schema.json'), 'utf8')) as object,
  )
  t.ok(validate(status), JSON.stringify(validate.errors))
  t.notOk(validate({ ...status, remaps: -1 }), 'the schema minds values')
  t.notOk(validate({ ...status, more: 1 }), 'and members that are not described')
  t.match(status, { table: { remaps: 3, buckets: 64, load: 4 }, statistics: { writes: 1, reads: 1 } })

  const [names = '', values = ''] = (await show('--csv')).stdout.trimEnd().split('\n')
  const fields = values.split(',')
  const row = Object.fromEntries(names.split(',').map((name, n) => [name, fields[n]]))
  t.match(row, { 'data-plane': 'running', remaps: '3', load: '4', writes: '1', 'bytes-written': '8192', clients: '1' })
  t.equal(row['health'], String(status.health.score))
  t.equal(fields.length, names.split(',').length)
  t.ok(Number(row['write-p50-us']) > 0)

  const used = (3 / (status.spares[0]?.['total-blocks'] ?? 0)) * 100
  const line = `disk: running, 3 blocks remapped, ${Number(used.toFixed(1))} % of the spare used, 0 requests failed, health ${status.health.score}, 1 clients\n`
  t.equal((await show('--summary')).stdout, line)

  const { stdout } = await show()
  t.match(stdout, /^table: +64 buckets, load 4, 0 resizes$/m)
  t.match(stdout, /^errors: +0 read and 0 write errors of main, 0 of spares; 0 slow reads; 0 requests failed$/m)
  t.match(stdout, /^requests: 1 reads \(512 bytes\), 1 writes \(8 KiB\), 0 flushes, 0 trims$/m)
  t.match(stdout, /^latency: +write: half within [\d.]+ (us|ms|s), 99 % within [\d.]+ (us|ms|s), all within /m)
  t.match(stdout, /^health: +\d+ of 100, ok, steady$/m)
  t.notMatch(stdout, /latency: +flush/, 'there was no flush')
  await client.disconnect()
})

void t.test('--csv --watch prints the names once', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const watch = new Program(t, ['status', '--control', server.controlPath, '--csv', '--watch', '0.02'])
  await watch.until(() => watch.stdout.split('\n').length > 3, 'three rows')
  const [head, ...rows] = watch.stdout.trimEnd().split('\n')
  t.match(head, /^time,data-plane,/)
  for (const row of rows) t.match(row, /^\d{4}-\d\d-\d\dT[\d:.]+Z,running,/)
  await watch.end('SIGINT')
})

void t.test('two forms at once are refused', async (t) => {
  await fails(t, 2, /--csv' cannot be used with option '--json/, ['status', '--control', 'x', '--json', '--csv'])
  await fails(t, 2, /--summary' cannot be used with option '--json/, [
    'status',
    '--control',
    'x',
    '--json',
    '--summary',
  ])
})

void t.test('times are shown with three digits', (t) => {
  t.same([0.125, 7.251, 999.4, 999.6, 43_120, 999_600, 1_234_567].map(formatUs), [
    '0.125 us',
    '7.25 us',
    '999 us',
    '1 ms',
    '43.1 ms',
    '1 s',
    '1.23 s',
  ])
  t.end()
})
