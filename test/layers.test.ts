/** The layers of `docs/ARCHITECTURE.md`: a folder imports only what stands lower. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import t from 'tap'
import { packageRoot } from '../src/cli/package-version.js'

const ROOT = packageRoot()
/** What each folder may import besides itself. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  'src/util': [],
  'src/nbd': ['src/util'],
  'src/conformance': ['src/nbd', 'src/util'],
  'src/qmp': ['src/util'],
  'src/faults': ['src/qmp', 'src/util'],
  'src/device': ['src/faults', 'src/nbd', 'src/util'],
  'src/filesystem': ['src/util'],
  'src/spare': ['src/device', 'src/util'],
  'src/remap': ['src/spare', 'src/device', 'src/util'],
  'src/server': ['src/device/device.ts', 'src/nbd', 'src/util'],
  'src/control': ['src/remap', 'src/spare', 'src/device', 'src/faults', 'src/qmp', 'src/util'],
  'src/cli': ['src', 'qemu'],
  qemu: ['src/faults', 'src/nbd/uri.ts', 'src/qmp', 'src/util'],
}

const sources = ['src', 'qemu'].flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name)),
)

const isWithin = (file: string, folder: string): boolean => file === folder || file.startsWith(`${folder}/`)
const folderOf = (file: string): string | undefined => Object.keys(ALLOWED).find((folder) => isWithin(file, folder))

function importsOf(file: string): string[] {
  const text = readFileSync(join(ROOT, file), 'utf8')
  const specifiers = [...text.matchAll(/\b(?:from|import)\s*\(?\s*'(\.[^']*)'/g)].map((match) => match[1] ?? '')
  return specifiers.map((specifier) => relative(ROOT, resolve(ROOT, dirname(file), specifier)).replace(/\.js$/, '.ts'))
}

void t.test('every source file belongs to a layer and imports only lower ones', (t) => {
  t.ok(sources.length > 50, 'the sources were found')
  for (const file of sources) {
    const folder = folderOf(file)
    if (!t.ok(folder, `${file} belongs to a layer`) || folder === undefined) continue
    const allowed = [folder, ...(ALLOWED[folder] ?? [])]
    const wrong = importsOf(file).filter((target) => !allowed.some((place) => isWithin(target, place)))
    t.same(wrong, [], `${file} imports only lower layers`)
  }
  t.end()
})

void t.test('the check sees a forbidden import', (t) => {
  const imports = importsOf('src/cli/session.ts')
  t.ok(imports.includes('src/server/server.ts'))
  t.notOk(
    imports.every((target) => isWithin(target, 'src/util')),
    'so that in src/util it would be refused',
  )
  t.end()
})
