/**
 * The first session of README.md, run as it stands there: what is typed in the first terminal, then in the second one,
 * Ctrl-C, and the rest. Only `npx nbd-remap` is replaced by the program of this build.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { findProgram } from '../../qemu/program.js'
import { Document } from '../support/documents.js'
import { typed, untilPrinted } from '../support/typed-commands.js'
import { socketDirectory } from '../support/upstream-servers.js'

const readme = new Document('README.md')
const session = readme.blocks.filter(({ heading }) => heading === 'A first session')
const commands = session.filter(({ language }) => language === 'sh').map(({ text }) => text)
const outputs = session.filter(({ language }) => language === '').map(({ text }) => text)

/** What differs from run to run. */
const normalise = (line: string): string =>
  line
    .replace(/pid \d+, since \S+/, 'pid N, since TIME')
    .replace(/socket=\/\S*\//, 'socket=/FOLDER/')
    .trimEnd()

function assertPrinted(t: Test, expected: string | undefined, output: string): void {
  const lines = output.split('\n').map(normalise)
  const missing = (expected ?? '')
    .trimEnd()
    .split('\n')
    .filter((line) => !lines.includes(normalise(line)))
  t.same(missing, [], 'it prints what README.md shows')
}

/** qemu-nbd --fork is nobody's child any more. */
function killQemuNbd(directory: string): void {
  try {
    process.kill(Number(readFileSync(join(directory, 'try/main.pid'), 'utf8')))
  } catch {
    // It never started, or the session has ended it.
  }
}

void t.test('the first session works word for word', async (t) => {
  for (const program of ['qemu-nbd', 'nbdinfo', 'nbdcopy']) findProgram(program)
  const directory = await socketDirectory(t)
  t.teardown(() => {
    killQemuNbd(directory)
  })
  const [first = '', second = '', third = ''] = commands
  t.equal(commands.length, 3)
  t.equal(outputs.length, 2)

  const server = typed(t, directory, first)
  t.ok(await untilPrinted(server, /^nbd\+unix:.*\n/m), server.output())

  const client = typed(t, join(directory, 'try'), second)
  t.equal(await client.ended, 0, client.output())
  assertPrinted(t, outputs[0], client.output())

  process.kill(-server.shell.pid!, 'SIGINT')
  await server.ended
  t.match(server.output(), /stopped/)

  const last = typed(t, join(directory, 'try'), third)
  t.equal(await last.ended, 0, last.output())
  assertPrinted(t, outputs[1], last.output())
})
