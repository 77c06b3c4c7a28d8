/** The lists of badblocks(8), which e2fsck(8) and mke2fs(8) take with -l: a block number on each line. */
import { SECTOR_SIZE } from '../units.js'
import { dataLines, ListError, wholeNumber } from './lines.js'
import type { ListRange, ListSource, ParseOptions } from './list.js'

/** Neighbours become one range, with the line of the first. A block that is named again counts once. @throws ListError */
export function parseBadblocks(text: string, { unit, lost }: ParseOptions): ListRange[] {
  const blocks: { block: number; line: number }[] = []
  for (const { fields, line } of dataLines(text)) {
    if (fields.length !== 1) throw new ListError(line, `has ${fields.length} fields and should have one block number`)
    const block = wholeNumber(fields[0] ?? '', 'block number', line)
    if (!Number.isSafeInteger((block + 1) * unit)) throw new ListError(line, `block ${block} lies on no disk`)
    blocks.push({ block, line })
  }
  blocks.sort((a, b) => a.block - b.block)
  const runs: { first: number; end: number; line: number }[] = []
  for (const { block, line } of blocks) {
    const last = runs.at(-1)
    if (last && block <= last.end) last.end = Math.max(last.end, block + 1)
    else runs.push({ first: block, end: block + 1, line })
  }
  return runs.map(({ first, end, line }) => ({
    line,
    mainSector: (first * unit) / SECTOR_SIZE,
    sectors: ((end - first) * unit) / SECTOR_SIZE,
    ...(lost && { lost }),
  }))
}

/** Blocks of `unit` bytes any part of which is remapped. */
export function* printBadblocks({ remaps }: ListSource, unit: number): Generator<string> {
  const perBlock = unit / SECTOR_SIZE
  let next = 0
  for (const { mainSector, sectors } of remaps) {
    const end = Math.ceil((mainSector + sectors) / perBlock)
    for (next = Math.max(next, Math.floor(mainSector / perBlock)); next < end; next++) yield `${next}\n`
  }
}
