/** Brings programs of this machine into the guest: an ext4 image with them and their libraries, to be mounted there. */
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'

/**
 * Needs e2fsprogs, and no root.
 * @param programs paths, such as `/usr/bin/sqlite3`. In the guest, mounted at /tools, each is called as `/tools/sqlite3`
 * @returns the path of the image, in a folder that `remove` removes
 */
export function toolsImage(programs) {
  const folder = mkdtempSync(join(tmpdir(), 'tools-'))
  const content = join(folder, 'content')
  mkdirSync(join(content, 'lib'), { recursive: true })
  for (const program of programs) {
    const libraries = execFileSync('ldd', [program], { encoding: 'utf8' }).match(/\/\S+/g) ?? []
    for (const library of libraries) copyFileSync(library, join(content, 'lib', basename(library)))
    copyFileSync(program, join(content, 'lib', `${basename(program)}.bin`))
    const loader = `/tools/lib/${basename(libraries.find((library) => library.includes('/ld-linux')))}`
    const script = `#!/bin/sh\nexec ${loader} --library-path /tools/lib /tools/lib/${basename(program)}.bin "$@"\n`
    writeFileSync(join(content, basename(program)), script, { mode: 0o755 })
  }
  const image = join(folder, 'tools.img')
  execFileSync('/sbin/mke2fs', ['-q', '-t', 'ext4', '-d', content, image, '48M'])
  return { image, remove: () => rmSync(folder, { recursive: true }) }
}
