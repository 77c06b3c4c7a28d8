/** Asks on the terminal before something is overwritten. */
import { createInterface } from 'node:readline/promises'
import { UsageError } from '../util/errors.js'

/** @returns whether it is to be done @throws UsageError when there is nobody to ask and no `--yes` */
export async function confirm(question: string, yes: boolean): Promise<boolean> {
  if (yes) return true
  if (!process.stdin.isTTY || !process.stderr.isTTY)
    throw new UsageError('there is no terminal to ask on: add --yes to have it done')
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} (yes or no) `)).trim())
  } finally {
    terminal.close()
  }
}

/** In the current folder, and of no file that is there: names have seconds, and files are never overwritten. */
export const backupName = (uuid: string): string =>
  `nbd-remap-${uuid.slice(0, 8)}-${new Date().toISOString().replaceAll(/[-:]|\.\d+/g, '')}.backup`
