/** Images with file systems whose files are known, made without mounting anything. */
import { spawnSync } from 'node:child_process'
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { RangeSet } from '../../src/util/range-set.js'
import { PatchyDisk } from '../../src/filesystem/source.js'
import { newFolder } from './cli.js'
import { runOk } from './tools.js'

export interface ExtImageOptions {
  /** Of mke2fs. */
  readonly options: readonly string[]
  /** In bytes. */
  readonly size: number
  /** A folder, of which a copy is in it. */
  readonly tree: string
}

/** @returns the path of the image */
export async function extImage(t: Test, { options, size, tree }: ExtImageOptions): Promise<string> {
  const image = join(newFolder(t), 'fs.img')
  writeFileSync(image, '')
  truncateSync(image, size)
  await runOk('/usr/sbin/mke2fs', '-q', '-F', '-E', 'root_owner=0:0', '-d', tree, ...options, image)
  return image
}

/** What debugfs says to these commands, in one run. */
export function debugfs(image: string, commands: readonly string[], ...options: string[]): string {
  const said = spawnSync('/usr/sbin/debugfs', [...options, '-f', '-', image], {
    input: `${commands.join('\n')}\n`,
    maxBuffer: 2 ** 30,
  })
  if (said.status !== 0) throw said.error ?? new Error(said.stderr.toString())
  return said.stdout.toString('latin1')
}

/** @param missing bytes that cannot be read, and are not to be tried */
export function diskOf(content: Buffer | string, missing = new RangeSet()): PatchyDisk {
  const data = typeof content === 'string' ? readFileSync(content) : content
  return new PatchyDisk(data.length, missing, (offset, length) =>
    Promise.resolve(Buffer.from(data.subarray(offset, offset + length))),
  )
}
