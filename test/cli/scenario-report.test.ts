/** `nbd-remap scenario report` renders again what was kept. */
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import t, { type Test } from 'tap'
import { writeJson, writeTap } from '../../qemu/report/index.js'
import { cli, fails } from '../support/cli.js'
import { killedControl, killedRun } from '../support/run-records.js'

async function kept(t: Test): Promise<{ directory: string; monday: string; tuesday: string }> {
  const directory = t.testdir()
  const [monday, tuesday] = [path.join(directory, 'monday.json'), path.join(directory, 'tuesday.json')]
  await writeFile(monday, writeJson([killedRun({ control: killedControl() })]))
  await writeFile(tuesday, writeJson([killedRun({ name: 'chaos', outcome: 'failed' })]))
  return { directory, monday, tuesday }
}

void t.test('several files become one report, whose exit code says whether all passed', async (t) => {
  const { directory, monday, tuesday } = await kept(t)
  const html = path.join(directory, 'week.html')
  const both = await cli(t, 'scenario', 'report', monday, tuesday, '--html', html, '--tap')
  t.equal(both.code, 1)
  const runs = [killedRun({ control: killedControl() }), killedRun({ name: 'chaos', outcome: 'failed' })]
  t.equal(both.stdout, writeTap(runs))
  t.match(await readFile(html, 'utf8'), /<h1>2 scenarios, 1 passed, 1 failed<\/h1>/)
  const one = await cli(t, 'scenario', 'report', monday)
  t.equal(one.code, 0)
  t.match(one.stdout, /^ok 1 - server-killed/m)
})

void t.test('what is not a report is refused with its place', async (t) => {
  const { directory, monday } = await kept(t)
  const broken = path.join(directory, 'broken.json')
  await writeFile(broken, '{"version": 1, "runs": [{"name": 7}]}')
  const sentence =
    /broken\.json: runs\[0\]\.name must be a string; it should be what "nbd-remap scenario run --json" writes/
  await fails(t, 2, sentence, ['scenario', 'report', monday, broken])
  const nowhere = path.join(directory, 'no', 'page.html')
  await fails(t, 1, /page\.html cannot be written: its folder does not exist/, [
    'scenario',
    'report',
    monday,
    '--html',
    nowhere,
  ])
  await fails(t, 2, /gone\.json: there is no such file/, ['scenario', 'report', path.join(directory, 'gone.json')])
})

void t.test('a run whose report has no folder is refused before it begins', async (t) => {
  const report = path.join(t.testdir(), 'none', 'report.xml')
  await fails(t, 2, /report\.xml cannot be written: its folder does not exist/, [
    ...['scenario', 'run', 'chaos', '--junit', report],
  ])
})
