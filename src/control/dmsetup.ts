/**
 * The text messages of dm-remap, as `dmsetup message NAME 0 ...` sends them, on top of the commands that do the work. Here
 * they return text, which device-mapper could, too, and dm-remap does not. Sectors are 512 bytes, and spare sectors count
 * from the start of the spare's data area.
 */
import { QmpReplyError } from '../qmp/error.js'
import type { Remaps, Removed } from './remap-commands.js'
import type { PlaceArguments, SectorState } from './device-operations.js'
import type { Arranged } from '../remap/rearrange.js'
import type { SpareState } from './spare-commands.js'
import type { DeviceSubject, LookAtHealth } from './device-commands.js'
import { healthReport, MESSAGE_REPORTS, spareReport } from './dmsetup-reports.js'
import { SECTOR_SIZE } from '../util/units.js'

interface Message {
  /** What follows its name. */
  readonly usage: string
  readonly description: string
  run(subject: DeviceSubject, words: readonly string[], look: LookAtHealth): Promise<string> | string
}

const MESSAGES: Readonly<Record<string, Message>> = {
  help: { usage: '', description: 'this list', run: () => help() },
  status: { usage: '', description: 'the disks, the remaps and their table', run: MESSAGE_REPORTS.status },
  stats: { usage: '', description: 'counters of requests', run: MESSAGE_REPORTS.stats },
  clear_stats: {
    usage: '',
    description: 'the counters begin anew; those of the lifetime go on',
    run: clearStatistics,
  },
  health: {
    usage: '',
    description: 'the health score, and what it is made of',
    run: async (_, __, look) => healthReport(await look()),
  },
  add_remap: {
    usage: 'MAIN SPARE LENGTH',
    description: 'serve these sectors from the spare, with their content',
    run: addRemap,
  },
  remove_remap: {
    usage: 'MAIN [LENGTH]',
    description: 'move a remap, or so many sectors, back to the main disk',
    run: removeRemap,
  },
  clear_all: { usage: '', description: 'move back all that the main disk takes', run: clearAll },
  save: { usage: '', description: 'flush both disks; the remaps are on the spare already', run: save },
  restore: { usage: '', description: 'nothing: the remaps are those on the spare', run: restore },
  verify: { usage: 'SECTOR', description: 'where a sector is, and whether it can be read there', run: verify },
  ping: { usage: '', description: 'is anybody there', run: () => 'pong' },
  spare_add: { usage: 'PATH', description: 'format a blank disk and take it into the pool of spares', run: spareAdd },
  spare_stats: { usage: '', description: 'the spares of the pool', run: (subject) => spareReport(subject) },
  spare_remove: {
    usage: 'PATH',
    description: 'move what a spare holds to the others, and take it out of the pool',
    run: spareRemove,
  },
}

/** @returns what is to be shown for it. @throws QmpReplyError with a sentence for people */
export async function deviceMessage(subject: DeviceSubject, look: LookAtHealth, text: string): Promise<string> {
  const [name = '', ...words] = text.trim().split(/\s+/)
  const message = Object.hasOwn(MESSAGES, name) ? MESSAGES[name] : undefined
  if (!message) throw new QmpReplyError(`there is no message '${name}': the message help lists them`)
  const takes = message.usage.split(' ').filter((word) => word !== '')
  const needs = takes.filter((word) => !word.startsWith('['))
  if (words.length < needs.length || words.length > takes.length) throw new QmpReplyError(usageOf(name, message))
  return message.run(subject, words, look)
}

/** Messages that only look are sent again and again by those who watch a device, and are not worth a line in the log. */
const LOOKING: ReadonlySet<string> = new Set(['help', 'status', 'stats', 'health', 'verify', 'ping', 'spare_stats'])

export const isLooking = (text: string): boolean => LOOKING.has(text.trim().split(/\s+/)[0] ?? '')

const usageOf = (name: string, { usage }: Message): string =>
  usage === '' ? `'${name}' takes nothing more` : `usage: ${name} ${usage}`

function help(): string {
  const rows = Object.entries(MESSAGES).map(([name, { usage, description }]) => [
    `${name} ${usage}`.trim(),
    description,
  ])
  const width = Math.max(...rows.map(([left = '']) => left.length))
  return ['Available commands:', ...rows.map(([left = '', right = '']) => `  ${left.padEnd(width)}  ${right}`)].join(
    '\n',
  )
}

// --- Remaps --------------------------------------------------------------------------------------------------------

async function addRemap(subject: DeviceSubject, words: readonly string[]): Promise<string> {
  const [main, spare, length] = [numberOf('MAIN', words[0]), numberOf('SPARE', words[1]), lengthOf(words[2])]
  const { blockSize, main: disk } = await subject.facts
  const range = wholeBlocks(main, spare, length, blockSize)
  // The last block of the disk may be short.
  const sectors = Math.min(range.sectors, Math.max(Math.ceil(disk.size / SECTOR_SIZE) - range['main-sector'], length))
  const { added, moved } = (await subject.ask('remap-place', { ...range, sectors })) as Arranged
  const how = moved > 0 ? ', moved there from another place' : added === 0 ? ', was there already' : ''
  return `Added remap: ${main} -> ${spare} (length ${length}${how})`
}

/**
 * The blocks that hold these sectors.
 * @throws QmpReplyError when they lie at different places of their blocks on the two disks
 */
export function wholeBlocks(main: number, spare: number, length: number, blockSize: number): PlaceArguments {
  const perBlock = blockSize / SECTOR_SIZE
  const shift = main % perBlock
  if (shift !== spare % perBlock) {
    throw new QmpReplyError(
      `this spare remaps blocks of ${perBlock} sectors: sector ${main} is number ${shift} of its block and sector ${spare} ` +
        `of the spare number ${spare % perBlock}; take spare sector ${spare - (spare % perBlock) + shift}`,
    )
  }
  const sectors = Math.ceil((shift + length) / perBlock) * perBlock
  return { 'main-sector': main - shift, 'spare-sector': spare - shift, sectors }
}

async function removeRemap(subject: DeviceSubject, words: readonly string[]): Promise<string> {
  const main = numberOf('MAIN', words[0])
  const sectors = words[1] === undefined ? await remapAt(subject, main) : lengthOf(words[1])
  const { blocks } = (await subject.ask('remap-remove', { 'main-sector': main, sectors })) as Removed
  const { blockSize } = await subject.facts
  return `Removed remap: ${main} (length ${(blocks * blockSize) / SECTOR_SIZE})`
}

/** The sectors of the remap that begins with `main`: neighbours on both disks are one. @throws QmpReplyError */
async function remapAt(subject: DeviceSubject, main: number): Promise<number> {
  const { blockSize } = await subject.facts
  const first = main - (main % (blockSize / SECTOR_SIZE))
  const { remaps } = (await subject.ask('query-remaps', { 'from-sector': main, limit: 1 })) as Remaps
  const [found] = remaps
  if (!found || found['main-sector'] > main) throw new QmpReplyError(`sector ${main} is not remapped`)
  if (found['main-sector'] === first) return found.sectors
  const { 'main-sector': start, sectors } = found
  throw new QmpReplyError(
    `sector ${main} is in the middle of the remap of the sectors ${start} to ${start + sectors - 1}: say remove_remap ` +
      `${start}, or how many sectors with remove_remap ${main} LENGTH`,
  )
}

async function clearAll(subject: DeviceSubject): Promise<string> {
  const { blocks, kept } = (await subject.ask('remap-clear', {})) as Removed
  const { blockSize } = await subject.facts
  const perBlock = blockSize / SECTOR_SIZE
  const rest = kept === 0 ? '' : `; ${kept * perBlock} stay: the main disk does not take them, or their content is lost`
  return `Cleared all remaps: ${blocks * perBlock} sectors moved back${rest}`
}

// --- Metadata, sectors, spares -------------------------------------------------------------------------------------

async function clearStatistics(subject: DeviceSubject): Promise<string> {
  await subject.ask('reset-stats', {})
  return 'Cleared statistics'
}

async function save(subject: DeviceSubject): Promise<string> {
  await subject.ask('flush', {})
  return 'Saved: both disks are flushed'
}

async function restore(subject: DeviceSubject): Promise<string> {
  const { remaps } = await subject.statistics()
  return `Restored: the ${remaps} remaps in use are those on the spare`
}

async function verify(subject: DeviceSubject, words: readonly string[]): Promise<string> {
  const sector = numberOf('SECTOR', words[0])
  const state = (await subject.ask('examine-sector', { sector })) as SectorState
  const place =
    state.spare === undefined ? 'on the main disk' : `sector ${state['spare-sector'] ?? ''} of ${state.spare}`
  const health = state.lost ? 'its content is lost' : state.readable ? 'readable' : 'not readable'
  return `Sector ${sector}: ${place}, ${health}`
}

async function spareAdd(subject: DeviceSubject, words: readonly string[]): Promise<string> {
  const spare = (await subject.ask('spare-add', { path: words[0] ?? '', force: false })) as SpareState
  const { blockSize } = await subject.facts
  return `Added spare: ${spare.name} (${(spare['total-blocks'] * blockSize) / SECTOR_SIZE} sectors)`
}

async function spareRemove(subject: DeviceSubject, words: readonly string[]): Promise<string> {
  const spare = words[0] ?? ''
  await subject.ask('spare-remove', { spare })
  return `Removing spare: ${spare}; spare_stats shows when it is gone`
}

// --- Words ---------------------------------------------------------------------------------------------------------

function numberOf(name: string, word = ''): number {
  const value = Number(word)
  if (!/^\d+$/.test(word) || !Number.isSafeInteger(value)) {
    throw new QmpReplyError(`${name} must be a sector number, not '${word}'`)
  }
  return value
}

function lengthOf(word: string | undefined): number {
  const length = numberOf('LENGTH', word)
  if (length === 0) throw new QmpReplyError('LENGTH must be at least 1')
  return length
}
