/** What `writeJunit` writes is valid by the schema that its readers have in common, whatever the texts in a record hold. */
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { writeJunit } from '../../../qemu/report/junit.js'
import { packageRoot } from '../../../src/cli/package-version.js'
import { seededRandom } from '../../support/random.js'
import { killedControl, killedRun, randomRun } from '../../support/run-records.js'

const SCHEMA = path.join(packageRoot(), 'test/fixtures/junit.xsd')
const run = promisify(execFile)

/** What xmllint has to say: nothing when the document is valid. */
async function complaints(t: Test, xml: string): Promise<string> {
  const file = path.join(t.testdir(), 'junit.xml')
  await writeFile(file, xml)
  const failed = (error: unknown): string => (error as { stderr: string }).stderr
  return run('xmllint', ['--noout', '--schema', SCHEMA, file]).then(() => '', failed)
}

/** The value of an XPath expression, as xmllint prints it. */
async function ask(t: Test, xml: string, expression: string): Promise<string> {
  const file = path.join(t.testdir(), 'junit.xml')
  await writeFile(file, xml)
  return (await run('xmllint', ['--xpath', expression, file])).stdout.trimEnd()
}

void t.test('a run that passed', async (t) => {
  const xml = writeJunit([killedRun({ control: killedControl() })])
  t.equal(await complaints(t, xml), '')
  t.equal(await ask(t, xml, 'string(//testsuite/@tests)'), '4')
  t.equal(await ask(t, xml, 'sum(//testsuite/@failures | //testsuite/@errors)'), '0')
  t.equal(await ask(t, xml, 'string(//property[@name="seed"]/@value)'), '7')
  t.equal(await ask(t, xml, 'string(//testsuite/@timestamp)'), '2026-11-28T12:00:00')
  t.match(await ask(t, xml, 'string(//system-out)'), /^6\.000 s kill: SIGKILL to the server$/m)
})

void t.test('failures and errors are counted and told apart', async (t) => {
  const checks = [{ name: 'nothing is lost', ok: false, detail: 'file-3 <is> gone', atMs: 1 }]
  const runs = [
    killedRun({
      outcome: 'failed',
      checks,
      measurements: [{ name: 'blackout', value: 1200, unit: 'ms', limit: 1000 }],
    }),
    killedRun({ outcome: 'broken', checks: [], error: 'QEMU ended with 1' }),
  ]
  const xml = writeJunit(runs)
  t.equal(await complaints(t, xml), '')
  t.equal(await ask(t, xml, 'string(//testsuite[@id=0]/@failures)'), '2')
  t.equal(await ask(t, xml, 'string(//testcase[@name="nothing is lost"]/failure/@message)'), 'file-3 <is> gone')
  t.equal(await ask(t, xml, 'string(//testcase[@name="blackout: at most 1,000 ms"]/failure/@message)'), '1,200 ms')
  t.equal(await ask(t, xml, 'string(//testsuite[@id=1]/@errors)'), '1')
  t.equal(await ask(t, xml, 'string(//testsuite[@id=1]//error)'), 'QEMU ended with 1')
})

void t.test('no runs', async (t) => {
  t.equal(await complaints(t, writeJunit([])), '')
})

void t.test('texts of any kind', async (t) => {
  const random = seededRandom(t)
  const runs = Array.from({ length: 200 }, () => randomRun(random))
  t.equal(await complaints(t, writeJunit(runs)), '')
})

void t.test('the schema refuses what is not a report', async (t) => {
  t.match(await complaints(t, writeJunit([killedRun()]).replace(' package="nbd-remap"', '')), /'package' is required/)
})
