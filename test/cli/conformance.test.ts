import t from 'tap'
import { cli, newFolder, newSpare, Serve } from '../support/cli.js'
import { MiB } from '../../src/util/units.js'

void t.test('conformance checks a server by its URI', async (t) => {
  const folder = newFolder(t)
  const server = await Serve.start(t, { folder, main: newSpare(folder, 'main.img', 64 * MiB), spare: newSpare(folder) })
  const text = await cli(t, 'conformance', server.uri)
  t.equal(text.code, 0)
  t.match(text.stdout, /^skipped: write: the content of the export may not be changed \(--write\)$/m)
  t.match(text.stdout, /^MUST {3}\d+ met, 0 not met\nSHOULD \d+ met, 0 not met\n$/m)
  t.notMatch(text.stdout, /^met: /m, 'what is met is counted only')

  const verbose = await cli(t, 'conformance', '--verbose', '--check', 'greeting', server.uri)
  t.match(verbose.stdout, /^met: greeting: MUST be fixed newstyle$/m)

  const json = await cli(t, 'conformance', '--write', '--json', server.uri)
  t.match(JSON.parse(json.stdout), { facts: { size: 64 * MiB, structured: true }, tallies: { MUST: { fail: 0 } } })

  const tap = await cli(t, 'conformance', '--tap', '--check', 'greeting', server.uri)
  t.match(tap.stdout, /^TAP version 14\nok 1 - greeting: MUST begin with NBDMAGIC and IHAVEOPT\n[^]*\n1\.\.3\n$/)
})

void t.test('conformance says what is wrong with its arguments', async (t) => {
  const nobody = `nbd+unix:///?socket=${newFolder(t)}/none`
  const unknown = await cli(t, 'conformance', '--check', 'beauty', nobody)
  t.equal(unknown.code, 2)
  t.match(unknown.stderr, /there is no check 'beauty': there are greeting, /)
  const absent = await cli(t, 'conformance', nobody)
  t.equal(absent.code, 1)
  t.match(
    absent.stderr,
    /nobody listens at \S*none: the socket does not exist; start the server first, or give the URI/,
  )
  const wrong = await cli(t, 'conformance', '/dev/null')
  t.equal(wrong.code, 2)
  t.match(wrong.stderr, /invalid NBD URI/)
})
