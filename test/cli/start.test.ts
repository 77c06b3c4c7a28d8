/**
 * The program starts quickly because it loads little: scripts call it for every single remap. What is loaded can be told
 * on any machine, how long that takes cannot.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { packageRoot } from '../../src/cli/package-version.js'
import { newFolder, PROGRAM } from '../support/cli.js'
import { run } from '../support/tools.js'

/** Of the clients of a server. One more is cheap, a layer of the server is not. */
const MODULES_MAX = 24

/** Node writes down which modules were loaded when it is asked for their coverage. Without what tap adds to each process. */
async function modulesOf(t: Test, ...args: string[]): Promise<string[]> {
  const folder = newFolder(t)
  await run('env', '-u', 'NODE_OPTIONS', `NODE_V8_COVERAGE=${folder}`, process.execPath, PROGRAM, ...args)
  return readdirSync(folder).flatMap((name) => {
    const { result } = JSON.parse(readFileSync(join(folder, name), 'utf8')) as { result: { url: string }[] }
    return result.flatMap(({ url }) => (url.startsWith('file:') ? [relative(packageRoot(), fileURLToPath(url))] : []))
  })
}

const NOBODY = ['--control', '/nonexistent/control']

const CALLS: readonly (readonly string[])[] = [
  ['status', ...NOBODY],
  ['add', ...NOBODY, '8', 'auto', '8'],
  ['remaps', ...NOBODY],
  ['dmsetup', 'message', 'nobody', '0', 'ping'],
]

for (const args of CALLS) {
  void t.test(`${args[0] ?? ''} loads nothing that only a server needs`, async (t) => {
    const modules = await modulesOf(t, ...args)
    t.ok(modules.includes('dist/src/qmp/client.js'), 'it came as far as asking')
    const strange = modules.filter(
      (path) => !/^dist\/src\/(cli|qmp|util|remap\/lists)\/|^node_modules\/commander\//.test(path),
    )
    t.same(strange, [], 'nothing from other layers and packages')
    const own = modules.filter((path) => path.startsWith('dist/'))
    t.ok(own.length <= MODULES_MAX, `${own.length} modules of our own: ${own.join(' ')}`)
  })
}
