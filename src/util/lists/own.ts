/**
 * Our own form: `MAIN_SECTOR SPARE_SECTOR SECTORS`, with `auto` for a spare sector wherever there is room, and `lost` for
 * sectors whose content is lost. What was exported can be imported again, lost sectors and all.
 */
import { dataLines, ListError, wholeNumber } from './lines.js'
import type { ListRange, ListSource } from './list.js'

/** @throws ListError */
export function parseOwn(text: string): ListRange[] {
  const ranges: ListRange[] = []
  for (const { fields, line } of dataLines(text)) {
    const [main = '', place = '', sectors = ''] = fields
    if (fields.length !== 3)
      throw new ListError(
        line,
        `has ${fields.length} fields and should have MAIN_SECTOR SPARE_SECTOR|auto|lost SECTORS`,
      )
    ranges.push({
      line,
      mainSector: wholeNumber(main, 'main sector', line),
      sectors: wholeNumber(sectors, 'number of sectors', line),
      ...placeOf(place, line),
    })
  }
  return ranges
}

/** @throws ListError */
export function placeOf(place: string, line: number): { readonly spareSector?: number; readonly lost?: boolean } {
  if (place === 'auto') return {}
  if (place === 'lost') return { lost: true }
  return { spareSector: wholeNumber(place, 'spare sector (a number, auto or lost)', line) }
}

export function* printOwn({ remaps, lost }: ListSource): Generator<string> {
  yield '# nbd-remap remaps, in sectors of 512 bytes\n# main sector, spare sector, sectors\n'
  for (const { mainSector, spareSector, sectors } of remaps) yield `${mainSector} ${spareSector} ${sectors}\n`
  for (const { mainSector, sectors } of lost) yield `${mainSector} lost ${sectors}\n`
}
