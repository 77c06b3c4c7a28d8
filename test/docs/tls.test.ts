/** docs/TLS.md: its commands run as they stand there, and what it quotes is what the program says. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { MiB } from '../../src/util/units.js'
import { Document, ROOT } from '../support/documents.js'
import { qemuSees } from '../support/qemu-sees.js'
import { typed, untilPrinted, type Typed } from '../support/typed-commands.js'
import { socketDirectory } from '../support/upstream-servers.js'

const document = new Document('docs/TLS.md')
const textsUnder = (heading: string, language = 'sh'): string[] =>
  document.blocks.filter((block) => block.heading === heading && block.language === language).map(({ text }) => text)

/** In place of the port of the document, the one that the server has. */
const PORT = /\b10809\b/g

class Session {
  port = '0'

  constructor(
    readonly t: Test,
    readonly directory: string,
  ) {}

  here(text: string): string {
    return text.replaceAll(PORT, this.port)
  }

  start(text: string): Typed {
    return typed(this.t, this.directory, this.here(text))
  }

  async run(text: string): Promise<{ status: number | null; output: string }> {
    const shell = this.start(text)
    const status = await shell.ended
    return { status, output: shell.output() }
  }

  async succeeds(text: string | undefined): Promise<string> {
    const { status, output } = await this.run(text ?? 'exit 1')
    this.t.equal(status, 0, output)
    return output
  }

  /** A server, when it accepts connections. */
  async serves(text: string | undefined): Promise<Typed> {
    const server = this.start(text ?? '')
    this.t.ok(await untilPrinted(server, /^nbds?(\+unix)?:.*\n/m), server.output())
    return server
  }
}

void t.test('with certificates', async (t) => {
  const session = new Session(t, await socketDirectory(t))
  const [make, serve, look] = textsUnder('Certificates')
  await session.succeeds(make)
  const server = await session.serves(serve)
  session.port = /nbds:\/\/127\.0\.0\.1:(\d+)/.exec(server.output())?.[1] ?? 'none'
  const seen = await session.succeeds(look)
  t.match(seen, /with TLS[^]*export-size: 67108864 /, 'libnbd')
  t.match(seen, /virtual size: 64 MiB/, 'QEMU')
  const [machine = ''] = textsUnder('Certificates', 'qemu')
  await qemuSees(t, session.directory, session.here(machine).replaceAll('pki/', `${session.directory}/pki/`), 64 * MiB)

  const [prepare, knock = ''] = textsUnder('Who is refused')
  await session.succeeds(prepare)
  const attempts = knock.trim().split('\n')
  t.equal(attempts.length, 3)
  for (const attempt of attempts) {
    const { status, output } = await session.run(attempt)
    t.not(status, 0, attempt)
    t.notMatch(output, /export-size/)
  }
  t.equal(server.output().match(/dropped: the client has no certificate/g)?.length, 2)

  const [above] = textsUnder('Disks behind TLS')
  const other = await session.serves(above)
  t.match(other.output(), /socket=\S*other.sock/, 'another nbd-remap')
})

void t.test('with a key', async (t) => {
  const session = new Session(t, await socketDirectory(t))
  const [make, serve, look] = textsUnder('Pre-shared keys')
  await session.succeeds(make)
  await session.serves(serve)
  const seen = await session.succeeds(look)
  t.match(seen, /with TLS[^]*export-size: 67108864 /, 'libnbd')
  t.match(seen, /virtual size: 64 MiB/, 'QEMU')
})

void t.test('the reasons are those that the program gives', (t) => {
  const source = readFileSync(join(ROOT, 'src/nbd/tls.ts'), 'utf8')
    .replaceAll('PEER', 'the client')
    .replaceAll('${names}', '...')
    .replaceAll("${host ?? ''}", '...')
  const { rows } = document.table('When it fails', 'reason in the log, or on the terminal')
  t.ok(rows.length > 5)
  for (const [reason = ''] of rows) t.ok(source.includes(reason.replace(/^certificate is made/, 'is made')), reason)
  t.end()
})
