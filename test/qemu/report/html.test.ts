/**
 * The page stands alone, and no text of a record becomes part of its structure. It is written so that it is well-formed
 * XML as well: a parser that forgives nothing then sees every tag and attribute that a text might have smuggled in.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { runInNewContext } from 'node:vm'
import t, { type Test } from 'tap'
import { cleanText } from '../../../qemu/report/clean-text.js'
import { writeHtml } from '../../../qemu/report/html/page.js'
import type { Mark, RunRecord } from '../../../qemu/report/record.js'
import { seededRandom } from '../../support/random.js'
import { killedControl, killedRun, nastyText, randomRun } from '../../support/run-records.js'

const run = promisify(execFile)

/** The page as XML: what scripts hold is not markup, and is taken out. */
const asXml = (page: string): string =>
  page.replace('<!doctype html>\n', '').replace(/(<script[^>]*>)[^]*?<\/script>/g, '$1</script>')

async function xmlFile(t: Test, page: string): Promise<string> {
  const file = path.join(t.testdir(), 'page.xml')
  await writeFile(file, asXml(page))
  return file
}

async function complaints(t: Test, page: string): Promise<string> {
  const failed = (error: unknown): string => (error as { stderr: string }).stderr
  return run('xmllint', ['--noout', '--huge', await xmlFile(t, page)]).then(() => '', failed)
}

async function ask(t: Test, page: string, expression: string): Promise<string> {
  return (await run('xmllint', ['--huge', '--xpath', expression, await xmlFile(t, page)])).stdout.trimEnd()
}

/** What is asked of every page, by name. */
const FORBIDDEN = {
  'scripts beside the one of the page and its data': '//script[@type != "application/json" or @src]',
  'more than one script that runs': '//script[not(@type)][2]',
  'elements that load something':
    '//img | //link | //iframe | //object | //embed | //base | //use | //image | //form | //foreignObject',
  'attributes that load or run something':
    '//@*[name() = "src" or name() = "srcset" or name() = "style" or starts-with(name(), "on")]',
  'links that lead out of the page': '//@href[not(starts-with(., "#run-"))]',
  'places that are no numbers':
    '//*[local-name() = "svg"]//@*[contains(., "NaN") or contains(., "Infinity") or contains(., "undefined")]',
  'styles beside the one of the page': '//style[position() > 1] | //body//style',
}

async function assertHarmless(t: Test, page: string): Promise<void> {
  t.equal(await complaints(t, page), '')
  const counts = Object.values(FORBIDDEN).map((expression) => `count(${expression})`)
  const found = await ask(t, page, `concat(${counts.join(', " ", ')})`)
  t.equal(found, counts.map(() => '0').join(' '), Object.keys(FORBIDDEN).join('; '))
  t.notMatch(/<style>([^]*?)<\/style>/.exec(page)?.[1] ?? '', /url\(|@import|https?:/, 'the style loads nothing')
}

void t.test('a run with its control run, side by side', async (t) => {
  const page = writeHtml([killedRun({ control: killedControl() })], { generator: 'nbd-remap 0.1.0' })
  await assertHarmless(t, page)
  t.equal(await ask(t, page, 'string(//h1)'), 'The server is killed while the guest writes, and the guest goes on')
  t.equal(
    await ask(t, page, 'normalize-space(//table[@class="checks"]/tbody/tr[1]/td[1])'),
    '✓0 errors in its kernel log',
  )
  t.equal(
    await ask(t, page, 'normalize-space(//table[@class="checks"]/tbody/tr[1]/td[2])'),
    '✗212 errors in its kernel log',
  )
  t.equal(await ask(t, page, 'count(//*[local-name()="svg" and @class="timeline"])'), '2')
  t.match(await ask(t, page, 'string(//dl)'), /blackout.*240 ms.*at most 1,000 ms/)
  t.match(await ask(t, page, 'string((//details)[1])'), /6\.000 s.*kill.*SIGKILL to the server/)
  const texts = await ask(t, page, '//*[@class="timeline"][1]//*[local-name()="text"]/text()')
  for (const text of [
    'throughput',
    'MiB/s',
    'writes',
    'boot the guest',
    'Kills',
    'the next worker serves, 240 ms',
    '10 s',
  ]) {
    t.ok(texts.includes(text), `the timeline says "${text}" without a script`)
  }
})

void t.test('several runs begin with an overview', async (t) => {
  const runs = [
    killedRun(),
    killedRun({ name: 'chaos', outcome: 'failed' }),
    killedRun({ outcome: 'broken', error: 'no QEMU' }),
  ]
  const page = writeHtml(runs)
  await assertHarmless(t, page)
  t.equal(await ask(t, page, 'string(//h1)'), '3 scenarios, 1 passed, 1 failed, 1 broken')
  t.equal(await ask(t, page, 'string(//table[@class="overview"]//a[@href="#run-2"])'), 'chaos')
  t.equal(await ask(t, page, 'count(//article[@id="run-2"])'), '1')
  t.match(await ask(t, page, 'string(//article[3]//pre)'), 'no QEMU')
  t.equal(await ask(t, page, 'count(//*/@id) - count(//*[not(@id = preceding::*/@id)]/@id)'), '0', 'ids are unique')
})

void t.test('no runs', async (t) => {
  const page = writeHtml([])
  await assertHarmless(t, page)
  t.equal(await ask(t, page, 'string(//h1)'), 'No runs')
})

void t.test('its policy allows the one script of the page, and nothing from elsewhere', async (t) => {
  const page = writeHtml([killedRun()])
  const policy = await ask(t, page, 'string(//meta[@http-equiv="Content-Security-Policy"]/@content)')
  const script = /<script>([^]*?)<\/script>/.exec(page)?.[1] ?? ''
  t.match(script, /addEventListener/)
  t.match(policy, /^default-src 'none';/)
  t.ok(policy.includes(`script-src 'sha256-${createHash('sha256').update(script).digest('base64')}'`))
})

void t.test('the script finds nothing to do on a page without timelines', (t) => {
  const script = /<script>([^]*?)<\/script>/.exec(writeHtml([]))?.[1] ?? ''
  const asked: string[] = []
  const page = {
    document: {
      querySelectorAll: (selector: string): [] => {
        asked.push(selector)
        return []
      },
    },
    addEventListener: (name: string) => asked.push(name),
  }
  runInNewContext(script, page)
  t.same(asked, ['figure.run-timeline', 'beforeprint'])
  t.end()
})

void t.test('texts of any kind', async (t) => {
  const random = seededRandom(t)
  const runs = Array.from({ length: 60 }, () => randomRun(random))
  const page = writeHtml(runs, { title: nastyText(random), generator: nastyText(random) })
  await assertHarmless(t, page)
  t.equal(await ask(t, page, 'count(//article)'), '60')
  const data = [...page.matchAll(/<script type="application\/json">([^]*?)<\/script>/g)].map(([, json = '']) => json)
  for (const json of data) t.doesNotThrow(() => JSON.parse(json) as unknown)
})

void t.test('a text is shown as it is, save for what cannot be shown', async (t) => {
  const random = seededRandom(t)
  for (let n = 0; n < 20; n++) {
    const error = nastyText(random)
    const page = writeHtml([killedRun({ error, outcome: 'broken' })])
    t.equal(await ask(t, page, 'string(//pre)'), cleanText(error).trimEnd())
  }
})

void t.test('a long run is drawn with bounded effort', async (t) => {
  const kinds = ['fault', 'remap'] as const
  const marks = kinds.flatMap((kind) =>
    Array.from({ length: 50_000 }, (_, n): Mark => ({ atMs: n, kind, text: `sector ${n}` })),
  )
  const points = Array.from({ length: 200_000 }, (_, n) => [n / 4, n === 77_777 ? 1000 : n % 10] as const)
  const long: RunRecord = killedRun({
    durationMs: 50_000,
    marks,
    series: [{ lane: 'throughput', name: 'writes', unit: 'MiB/s', points }],
  })
  const page = writeHtml([long])
  t.ok(page.length < 1_500_000, `${page.length} bytes`)
  t.equal(await complaints(t, page), '')
  t.match(
    await ask(t, page, '//*[@class="timeline"]//*[local-name()="text"]/text()'),
    /50,000/,
    'all marks are counted',
  )
  t.match(page, /"points":\[.*\[19444,1000\]/, 'the peak is there')
})
