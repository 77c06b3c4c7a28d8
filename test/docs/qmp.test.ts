/** The examples of docs/QMP.md run, and its limits and lines are those of the program. */

import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import * as qmp from '../../src/qmp/index.js'
import { Document, ROOT } from '../support/documents.js'
import { storageDaemonMonitor } from '../support/qemu-monitor.js'
import { socketDirectory } from '../support/qmp-server.js'

const document = new Document('docs/QMP.md')
const block = (language: string): string => document.blocks.find((each) => each.language === language)?.text ?? ''

void t.test('the example prints what it says', async (t) => {
  const directory = await socketDirectory(t)
  const monitor = path.join(directory, 'm')
  // Its greeting says that all monitors are up.
  const control = await storageDaemonMonitor(
    t,
    '--chardev',
    `socket,id=s,path=${monitor},server=on,wait=off`,
    '--monitor',
    'chardev=s',
  )
  t.teardown(() => control.close())
  const file = path.join(directory, 'example.mjs')
  const library = pathToFileURL(path.join(ROOT, 'dist/src/qmp/index.js')).href
  await writeFile(file, block('js').replace('nbd-remap/qmp', library))
  const env = { ...process.env, XDG_CACHE_HOME: directory }
  const { stdout } = await promisify(execFile)(process.execPath, [file, monitor], { env })
  const version = control.greeting.version.qemu
  t.equal(stdout, block('text').replace('7.2', `${version.major}.${version.minor}`))
})

void t.test('all that the tables name is there', (t) => {
  const names = document.tables.flatMap(({ columns: [first = ''], rows }) =>
    first === 'export' || first === 'error' ? rows.map(([cell = '']) => cell) : [],
  )
  t.ok(names.length > 10)
  for (const [, name = ''] of names.join().matchAll(/(\w+)/g)) t.ok(name in qmp, name)
  const limits = document.tables.find(({ columns }) => columns[0] === 'limit')?.rows ?? []
  t.same(
    Object.fromEntries(limits.map(([name = '', value = '']) => [name.replaceAll('`', ''), Number(value)])),
    qmp.SHARE_LIMITS,
  )
  t.end()
})

void t.test('the lines of the recording are of the form that the text says', (t) => {
  const lines = block('json').trimEnd().split('\n')
  t.equal(lines.length, 3)
  for (const line of lines) {
    t.match(JSON.parse(line), { time: String, direction: /^(command|reply|event)$/, message: Object })
  }
  t.end()
})
