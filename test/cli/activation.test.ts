/** Socket activation as libnbd does it: the client makes the socket, starts the server with it, and ends it. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { findProgram } from '../../qemu/program.js'
import { packageRoot } from '../../src/cli/package-version.js'
import { MiB } from '../../src/util/units.js'

void t.test('nbdinfo and nbdcopy start the server on a socket of their own', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'nbd-activation-'))
  t.teardown(() => rm(directory, { recursive: true }))
  const file = (name: string): string => join(directory, name)
  const content = Buffer.alloc(MiB, 'content')
  await writeFile(file('main.img'), content)
  await writeFile(file('spare.img'), '')
  await truncate(file('spare.img'), 16 * MiB)
  const disks = ['--main', file('main.img'), '--spare', file('spare.img')]
  const server = [
    '[',
    process.execPath,
    join(packageRoot(), 'dist/src/cli/main.js'),
    'serve',
    ...disks,
    '--create',
    ']',
  ]

  const info = await promisify(execFile)(findProgram('nbdinfo'), ['--size', '--', ...server])
  t.equal(info.stdout.trim(), String(MiB))

  await promisify(execFile)(findProgram('nbdcopy'), ['--', ...server, file('copy.img')])
  await promisify(execFile)('cmp', [file('main.img'), file('copy.img')])
  t.pass('the copy is the same')
})
