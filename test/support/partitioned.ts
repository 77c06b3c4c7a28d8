/** Disks with partition tables as sfdisk makes them. */
import { spawnSync } from 'node:child_process'
import { truncateSync, writeFileSync } from 'node:fs'
import { requireTool } from './tools.js'

const SFDISK = '/usr/sbin/sfdisk'

/** @param script what sfdisk(8) reads */
export function partitionedDisk(path: string, size: number, script: string): string {
  requireTool(SFDISK)
  writeFileSync(path, '')
  truncateSync(path, size)
  const { status, stderr } = spawnSync(SFDISK, ['-q', '--no-reread', path], { input: script, encoding: 'utf8' })
  if (status !== 0) throw new Error(`sfdisk failed: ${stderr}`)
  return path
}
