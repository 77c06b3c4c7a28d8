/** `verify --control`, `repair --control` and `serve --self-check`: copies decay on the disk beneath a running server. */
import t from 'tap'
import { QmpClient } from '../../src/qmp/client.js'
import { HEADER_AREA_SIZE, HEADER_OFFSETS } from '../../src/spare/format.js'
import { cli, fails, MANY_PROCESSES_TIMEOUT_MS, newPair, pattern, Serve } from '../support/cli.js'
import { GREETING, negotiating, scriptedServer } from '../support/qmp-server.js'
import { scribble } from '../support/refusals.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

const damage = async (spare: string): Promise<void> => {
  for (const offset of [HEADER_OFFSETS[2]!, HEADER_AREA_SIZE]) await scribble(spare, offset + 100, pattern(50))
}

void t.test('what decays is found and repaired while clients write and blocks are remapped', async (t) => {
  const pair = newPair(t)
  const server = await Serve.start(t, pair)
  const client = await server.connect()
  const running = { isOver: false }
  let block = 0
  const load = (async () => {
    for (; !running.isOver; block++) {
      await client.write(4096 * (block % 500), [pattern(4096, block)])
      if (block % 10 === 0)
        await server.ask('remap-add', { 'main-sector': 8 * ((block / 10) % 500), sectors: 8, 'skip-remapped': true })
    }
  })()
  const control = ['--control', server.controlPath]
  t.match(await cli(t, 'verify', ...control), { code: 0, stdout: /1 header\(s\) in 5 copies.*\nresult: +intact/ })
  await damage(pair.spare)
  const repaired = await cli(t, 'repair', ...control, '--json')
  t.equal(repaired.code, 0)
  // A remap rewrites the slot page, and with it the damage: then only the header is left to be found.
  const answer = JSON.parse(repaired.stdout) as { damaged: number; repaired: number; findings: unknown[] }
  t.ok(answer.damaged >= 1 && answer.repaired === answer.damaged)
  t.match(answer.findings[0], { structure: 'header', copies: [2], reason: /checksum does not match/, repaired: true })
  running.isOver = true
  await load
  await damage(pair.spare)
  t.match(await cli(t, 'verify', ...control), {
    code: 1,
    stdout: /WRONG: +header of .*\nWRONG: +slot page 0 of .*: copy 0 checksum does not match\nresult: +2 problem\(s\)/,
  })
  t.match(await cli(t, 'repair', ...control), { code: 0, stdout: /repaired: slot page 0 of .*\nresult: +intact/ })
  t.match(await cli(t, 'verify', ...control), { code: 0 })
  await client.disconnect()
  t.same(await server.end(), { code: 0, signal: null })
  t.match(server.stderr, /slot page 0 was repaired: copy 0 checksum does not match/)
  t.equal((await cli(t, 'verify', '--spare', pair.spare)).code, 0)
})

void t.test('a self-check repairs by itself and says so', async (t) => {
  const pair = newPair(t)
  await fails(t, 2, /number of seconds from 0 to/, [
    ...['serve', '--main', pair.main, '--spare', pair.spare, '--self-check', 'often'],
  ])
  const server = await Serve.start(t, pair, ['--create', '--self-check', '0.05'])
  const client = await QmpClient.connect(server.controlPath)
  const repaired = client.events('METADATA_REPAIRED')
  // One after the other: what is repaired of a slot page ends with a header that is written anew.
  for (const [structure, offset] of [
    ['header', HEADER_OFFSETS[2]!] as const,
    ['slot-page', HEADER_AREA_SIZE] as const,
  ]) {
    await scribble(pair.spare, offset + 100, pattern(50))
    t.match(await repaired.next(), { data: { structure } })
  }
  await client.close()
  await server.until(() => server.stderr.includes('self-check: 1 headers and'), 'it said so')
  await server.end()
})

void t.test('one of --spare and --control is needed, and what goes with one does not go with the other', async (t) => {
  for (const command of ['verify', 'repair']) {
    await fails(t, 2, /give either --spare.* or --control/, [command])
    await fails(t, 2, /give either --spare.* or --control/, [command, '--spare', 'x', '--control', 'y'])
  }
  await fails(t, 2, /go with --spare/, ['repair', '--control', 'y', '--backup', 'x'])
})

void t.test('how far a check is stands on standard error, and not in its answer', async (t) => {
  const progress = { operation: 'verify', spare: 'spare.img', 'done-pages': 3, 'total-pages': 8 }
  const answer = { headers: 1, 'slot-pages': 8, damaged: 0, repaired: 0, findings: [] }
  const timestamp = { seconds: 1, microseconds: 2 }
  const server = await scriptedServer(
    t,
    (socket) => socket.write(GREETING),
    negotiating((socket, { execute, id }) => {
      t.equal(execute, 'metadata-verify')
      const event = { event: 'METADATA_PROGRESS', data: progress, timestamp }
      for (const message of [event, { return: answer, id }]) socket.write(`${JSON.stringify(message)}\r\n`)
    }),
  )
  const verified = await cli(t, 'verify', '--control', server.path, '--json')
  t.match(verified, { code: 0, stderr: 'spare.img: 3 of 8 slot pages\n' })
  t.same(JSON.parse(verified.stdout), answer)
})
