/** Every relative link in a Markdown file points at something that exists, and every heading it names is there. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import t from 'tap'
import { ROOT } from '../support/documents.js'

const FOLDERS = ['.', 'docs', 'images', 'qemu', 'scripts', 'src', 'test']

const documents = FOLDERS.flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: folder !== '.', encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(folder, name)),
)

/** As GitHub makes them: lower case, no punctuation, dashes for spaces. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')

const anchorsIn = (text: string): string[] =>
  [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => anchorOf(heading))

function brokenLinks(document: string): string[] {
  const text = readFileSync(join(ROOT, document), 'utf8')
  const targets = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target)
  return targets.filter((target) => {
    if (/^[a-z]+:/.test(target)) return false
    const [path = '', anchor] = target.split('#')
    const file = path === '' ? join(ROOT, document) : resolve(ROOT, dirname(document), path)
    if (!existsSync(file) || relative(ROOT, file).startsWith('..')) return true
    return anchor !== undefined && !anchorsIn(readFileSync(file, 'utf8')).includes(anchor)
  })
}

void t.test('links lead somewhere', (t) => {
  t.ok(documents.length >= 8, 'the documents were found')
  for (const document of documents) t.same(brokenLinks(document), [], document)
  t.end()
})

void t.test('the documents name no folder outside the repository that only one machine has', (t) => {
  for (const document of documents) t.notMatch(readFileSync(join(ROOT, document), 'utf8'), ROOT, document)
  t.end()
})
