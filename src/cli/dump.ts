/** `nbd-remap dump`: everything that the metadata of a spare says. */
import { Command } from 'commander'
import type { Dump, DumpedHeader, DumpedPage, DumpedSlot } from '../spare/dump.js'
import { stderrLog } from '../util/log.js'
import { EXIT } from './exit.js'
import { jsonOption, spareOption } from './options.js'
import { print } from './print.js'

export const dumpCommand = (): Command =>
  new Command('dump')
    .description('Print everything that the metadata of a spare says, copy by copy, damaged ones too. Changes nothing.')
    .addOption(spareOption('the spare, which is not being served'))
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Free slots are left out. Where no copy of a header or a slot page is intact, it prints what a damaged one says, and says so.

Exit codes: 0 printed, 1 printed, and no header is in force, 3 in use.

Example:
  nbd-remap dump --spare spare.img | less`,
    )
    .action(dump)

async function dump(options: { readonly spare: string; readonly json?: boolean }): Promise<void> {
  const [{ openDisk }, { dumpSpare }] = await Promise.all([import('../device/open.js'), import('../spare/dump.js')])
  const { device } = await openDisk(options.spare, { readOnly: true, log: stderrLog() })
  try {
    const found = await dumpSpare(device)
    await print(options.json ? asJson(found) : asText(found))
    process.exitCode = found.problem === '' ? EXIT.done : EXIT.failed
  } finally {
    await device.close()
  }
}

/** One document, a page at a time. */
async function* asJson({ pages, ...start }: Dump): AsyncGenerator<string> {
  const text = JSON.stringify({ ...start, pages: [] }, null, 2)
  yield text.slice(0, text.lastIndexOf('[]'))
  yield '['
  let isFirst = true
  for await (const page of pages()) {
    yield `${isFirst ? '' : ','}\n${JSON.stringify(page)}`
    isFirst = false
  }
  yield ']\n}\n'
}

async function* asText(found: Dump): AsyncGenerator<string> {
  yield `spare ${found.spare}, ${found.size} bytes\n`
  if (found.problem !== '') yield `NO HEADER IS IN FORCE: ${found.problem}\n`
  for (const header of found.headers) yield describeHeader(header)
  for await (const page of found.pages()) yield describePage(page)
}

function describeHeader({ copy, offset, state, reason, fields }: DumpedHeader): string {
  const first = `\nheader copy ${copy} at ${offset}: ${state}${reason === '' ? '' : `, ${reason}`}\n`
  return first + (fields ? Object.entries(fields).map(describeField).join('') : '')
}

const describeField = ([name, value]: [string, unknown]): string =>
  `  ${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}\n`

function describePage({ page, copies, slots }: DumpedPage): string {
  const lines = copies.map(({ copy, offset, state, reason, sequence, headerSequence }) => {
    const numbers = sequence === undefined ? '' : `, sequence ${sequence}, header sequence ${headerSequence ?? 0}`
    return `  copy ${copy} at ${offset}: ${state}${reason === '' ? '' : `, ${reason}`}${numbers}`
  })
  return [`\nslot page ${page}`, ...lines, ...slots.map(describeSlot), ''].join('\n')
}

function describeSlot(slot: DumpedSlot): string {
  const lost = slot.lostSectors.length === 0 ? '' : `, lost sectors ${slot.lostSectors.join(' ')}`
  const what =
    slot.state === 'remapped' ? `remapped, main block ${slot.mainBlock} (sector ${slot.mainSector})` : slot.state
  return `  slot ${slot.slot} at ${slot.spareOffset}: ${what}, generation ${slot.generation}${lost}`
}
