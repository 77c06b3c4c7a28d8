/**
 * Lists of ranges as files: our own form, the lists of badblocks(8), and the map files of GNU ddrescue. Each form has a
 * file of its own here with what reads and what writes it.
 */
import { parseBadblocks, printBadblocks } from './badblocks.js'
import { parseDdrescue, printDdrescue } from './ddrescue.js'
import { parseOwn, printOwn } from './own.js'
import { dataLines, ListError } from './lines.js'

export const LIST_FORMATS = ['own', 'badblocks', 'ddrescue'] as const
export type ListFormat = (typeof LIST_FORMATS)[number]

/** What is remapped, or is to be, in sectors of 512 bytes. */
export interface ListRange {
  readonly mainSector: number
  readonly sectors: number
  /** Where on the spare; `undefined`: wherever there is room. */
  readonly spareSector?: number | undefined
  /** The content of these sectors is lost. */
  readonly lost?: boolean | undefined
  readonly line: number
}

export interface ParseOptions {
  /** Guessed from the first line that is no comment when it is not given. */
  readonly format?: ListFormat | undefined
  /** Bytes of a block of a badblocks list. */
  readonly unit: number
  /** Of a ddrescue map: areas with one of these statuses are meant. */
  readonly statuses: string
  /** The content of the areas of a badblocks list or a ddrescue map is lost. */
  readonly lost: boolean
}

/** @returns the ranges in ascending order of the main disk @throws ListError */
export function parseList(text: string, options: ParseOptions): ListRange[] {
  const format = options.format ?? guessFormat(text)
  const ranges = parseAs(format, text, options)
  // Sorted already, as nearly all are, it costs a look.
  return ranges.sort((a, b) => a.mainSector - b.mainSector || Number(a.lost ?? false) - Number(b.lost ?? false))
}

function parseAs(format: ListFormat, text: string, options: ParseOptions): ListRange[] {
  switch (format) {
    case 'own':
      return parseOwn(text)
    case 'badblocks':
      return parseBadblocks(text, options)
    case 'ddrescue':
      return parseDdrescue(text, options)
  }
}

function guessFormat(text: string): ListFormat {
  for (const { fields, line } of dataLines(text)) {
    if (fields.length === 1) return 'badblocks'
    // The first line of a map is the position of ddrescue, its status, and in newer versions its pass.
    if (/^[?*/\-FG+]$/.test(fields[1] ?? '')) return 'ddrescue'
    if (fields.length === 3) return 'own'
    throw new ListError(line, 'is in none of the known forms: own, badblocks, ddrescue')
  }
  return 'own'
}

/** What is remapped, for export. `size` is that of the main disk in bytes. */
export interface ListSource {
  readonly size: number
  readonly remaps: Iterable<{ readonly mainSector: number; readonly spareSector: number; readonly sectors: number }>
  /** Sectors whose content is lost; all of them lie in remaps. */
  readonly lost: Iterable<{ readonly mainSector: number; readonly sectors: number }>
}

export function* printList(
  source: ListSource,
  { format, unit }: { format: ListFormat; unit: number },
): Generator<string> {
  if (format === 'own') yield* printOwn(source)
  else if (format === 'badblocks') yield* printBadblocks(source, unit)
  else yield* printDdrescue(source)
}
