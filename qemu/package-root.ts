/** Where this package is: its sources run from `dist/`, in a checkout as in an installed package. */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** The folder that holds package.json. */
export function packageRoot(): string {
  let folder = import.meta.dirname
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder)
    if (parent === folder) throw new Error(`no package.json above ${import.meta.dirname}`)
    folder = parent
  }
  return folder
}
