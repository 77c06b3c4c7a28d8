/** Names on a terminal. */
import t from 'tap'
import { printableName } from '../../src/util/printable.js'

const said = (...bytes: (string | number)[]): string =>
  printableName(
    Buffer.concat(bytes.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from([part])))),
  )

void t.test('harmless names are as they are', (t) => {
  for (const name of ['/a b/c', '/größe', '/日本', 'a\\b', "it's", '/🦀']) t.equal(said(name), name)
  t.end()
})

void t.test('what a terminal would act on, or would be misread, is in quotes, as JSON has it', (t) => {
  for (const name of [
    'a\nb',
    'a\u001b[2Jb',
    'a"b\n',
    '/x\u202egnp.exe',
    'a\u2028b',
    ' a',
    'a ',
    '\u007f',
    'back\\slash\n',
  ]) {
    const quoted = said(name)
    t.match(quoted, /^"[\x20-\x7e]*"$/)
    t.equal(JSON.parse(quoted), name)
  }
  t.equal(said('a\nb'), String.raw`"a\nb"`)
  t.end()
})

void t.test('bytes that are no UTF-8 are told one by one', (t) => {
  t.equal(said('a\n', 0xff, 'ä'), String.raw`"a\n\xff\xc3\xa4"`)
  t.end()
})
