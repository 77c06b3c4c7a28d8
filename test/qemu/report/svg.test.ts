/** The picture is a document of its own, whatever the texts in a record hold. */
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import type { RunRecord } from '../../../qemu/report/record.js'
import { writeSvg } from '../../../qemu/report/svg.js'
import { seededRandom } from '../../support/random.js'
import { killedControl, killedRun, randomRun } from '../../support/run-records.js'

const run = promisify(execFile)

async function ask(t: Test, record: RunRecord, expression: string): Promise<string> {
  const file = path.join(t.testdir(), 'picture.svg')
  await writeFile(file, writeSvg(record))
  return (await run('xmllint', ['--xpath', expression, file])).stdout.trimEnd()
}

void t.test('it stands alone, and shows the run without its control run', async (t) => {
  const record = killedRun({ control: killedControl() })
  t.equal(await ask(t, record, 'namespace-uri(/*)'), 'http://www.w3.org/2000/svg')
  t.match(
    await ask(t, record, '//*[local-name()="text"]/text()'),
    /SIGKILL to the server[^]*answers|next worker serves, 240 ms/,
  )
  t.equal(await ask(t, record, 'count(//*[local-name()="svg"])'), '1')
  t.notMatch(writeSvg(record), /<script|href=|url\((?!#timeline-plot)/)
})

void t.test('a line that nobody can zoom into needs few points', (t) => {
  const points = Array.from({ length: 50_000 }, (_, n) => [n, n % 13] as const)
  const text = writeSvg(killedRun({ series: [{ lane: 'throughput', name: 'writes', unit: 'MiB/s', points }] }))
  t.ok(text.length < 40_000, `${text.length} bytes`)
  t.end()
})

void t.test('texts of any kind', async (t) => {
  const random = seededRandom(t)
  const foreign = '//*[not(contains(" svg style rect defs clipPath path g text ", concat(" ", local-name(), " ")))]'
  for (let n = 0; n < 20; n++)
    t.equal(await ask(t, randomRun(random), `count(${foreign} | //@*[starts-with(name(), "on")])`), '0')
})
