/** The session in docs/CONSOLE.md, run line by line: what it prints is what the document shows. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { newFolder, newPair, Program, Serve } from '../support/cli.js'
import { qemuForConsole, separateHome } from '../support/console.js'
import { Document } from '../support/documents.js'

separateHome(t)
const page = new Document('docs/CONSOLE.md')
const [transcript = ''] = page.blocks
  .filter(({ heading, language }) => heading === 'A session' && language === '')
  .map(({ text }) => text)

const PROMPT = /^[\w-]+(?: transaction \d+)?> (.*)$/

/** What differs from run to run, and between machines. */
const normalise = (text: string): string[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) =>
      line
        .replace(/^[\d:]{8}\.\d{3} /, 'TIME ')
        .replace(/QEMU \d+\.\d+\.\d+/, 'QEMU N')
        .replace(/"\/\S*\//, '"/FOLDER/'),
    )

void t.test('the session works word for word', async (t) => {
  const folder = newFolder(t)
  await qemuForConsole(t, folder)
  await Serve.start(t, newPair(t, folder), ['--create'], 'disk')
  const lines = transcript.split('\n').flatMap((line) => PROMPT.exec(line)?.[1] ?? [])
  t.ok(lines.length > 15)
  writeFileSync(join(folder, 'lines'), lines.join('\n'))
  const args = ['console', 'qemu.qmp', 'disk.qmp', '--echo', '--keep-going', '--script', 'lines']
  const console = new Program(t, args, { cwd: folder })
  t.same(await console.exited, { code: 1, signal: null }, 'one line is mistyped')
  const [mistyped = ''] = /^'driver' cannot be .*$/m.exec(transcript) ?? []
  t.match(console.stderr, `nbd-remap: lines:3: ${mistyped}\n`)
  const printed = transcript.split('\n').filter((line) => line !== mistyped)
  t.same(normalise(console.stdout), normalise(printed.join('\n')))
})
