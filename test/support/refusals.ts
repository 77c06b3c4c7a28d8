/** Pairs of disks that `serve` must refuse, and that it does so without writing to them. */
import { existsSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { fails, newPair, Serve, type PairFiles } from './cli.js'

export const FAILED = 1
export const REFUSED = 3

/** The arguments of `serve`, on a socket that is never made. */
export const serve = ({ folder, main, spare }: PairFiles, ...args: string[]): string[] => [
  ...['serve', '--main', main, '--spare', spare],
  ...['--socket', join(folder, 'x.sock'), '--control', join(folder, 'x.qmp'), ...args],
]

/** That `serve` fails, leaves both disks as they are, and leaves no socket. */
export async function refuses(
  t: Test,
  pair: PairFiles,
  sentence: RegExp,
  { code = REFUSED, args = [] as readonly string[] } = {},
): Promise<void> {
  await fails(t, code, sentence, serve(pair, ...args), [pair.main, pair.spare])
  for (const name of ['x.sock', 'x.qmp']) t.notOk(existsSync(join(pair.folder, name)), `no ${name} is left behind`)
}

/** A pair that was formatted, got a remap, and was stopped cleanly. */
export async function usedPair(t: Test): Promise<PairFiles> {
  const pair = newPair(t)
  const server = await Serve.start(t, pair)
  await server.ask('remap-add', { 'main-sector': 800, sectors: 8 })
  await server.end()
  return pair
}

/** Overwrites `length` bytes at `offset`. */
export async function scribble(path: string, offset: number, content: Buffer): Promise<void> {
  const file = await open(path, 'r+')
  await file.write(content, 0, content.length, offset)
  await file.close()
}
