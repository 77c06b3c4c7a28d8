/** What `nbd-remap files` does: gathers the sectors, opens the disk that they are on, and prints what becomes known of them. */
import type { Device } from '../device/device.js'
import { DeviceError } from '../device/device.js'
import { examineDisk } from '../filesystem/examine.js'
import { PatchyDisk } from '../filesystem/source.js'
import type { QmpClient } from '../qmp/client.js'
import { UsageError } from '../util/errors.js'
import { stderrLog } from '../util/log.js'
import { RangeSet } from '../util/range-set.js'
import { SECTOR_SIZE } from '../util/units.js'
import { withServer } from './ask.js'
import { readList } from './batch.js'
import type { FilesOptions, SectorRange, Sort } from './files.js'
import { printFiles, type Looked } from './files-text.js'
import { allPages } from './pages.js'
import { ProgressLine } from './progress-line.js'

/** More ranges than this are not looked up. */
const RANGES_MAX = 1_000_000

/** @throws UsageError, RefusedError, Error with a sentence for people */
export async function findFiles(sectors: readonly SectorRange[], options: FilesOptions): Promise<void> {
  const given = await givenRanges(sectors, options)
  const { control, main, disk } = options
  if (control !== undefined && main === undefined) await ofServer(control, given, options)
  else if (main !== undefined && control === undefined && disk === undefined) await ofPair(main, given, options)
  else if (disk !== undefined && main === undefined) await ofDisk(disk, given, options)
  else
    throw new UsageError(
      'give --control, of a server, or --main and --spare, of a pair that is not being served, or --disk',
    )
}

/** @returns undefined when none are given: then those of the pair are meant */
async function givenRanges(
  sectors: readonly SectorRange[],
  { from, format, unit, statuses, of: sort }: FilesOptions,
): Promise<readonly SectorRange[] | undefined> {
  const isGiven = [sectors.length > 0, from !== undefined, sort !== undefined].filter(Boolean).length
  if (isGiven > 1) throw new UsageError('give sectors, or --from, or --of, and not several of them')
  if (from === undefined) return sectors.length > 0 ? sectors : undefined
  const list = await readList(from, { format, unit, statuses, lost: false })
  return list.map(({ mainSector, sectors: count }) => ({ sector: mainSector, sectors: count }))
}

async function ofServer(
  control: string,
  given: readonly SectorRange[] | undefined,
  options: FilesOptions,
): Promise<void> {
  const { of: sort = 'lost', disk } = options
  const { uri, ranges } = await withServer(control, async (client) => {
    const status = (await client.execute('query-status')) as { readonly uri: string }
    return { uri: disk ?? status.uri, ranges: given ?? (await rangesOfServer(client, sort)) }
  })
  const isLost = given === undefined && sort === 'lost'
  await withDisk(uri, (device) => look(device, { ranges, what: given ? 'given' : sort, isMissing: isLost }, options))
}

const LISTS: Readonly<Record<Sort, readonly [command: string, member: string]>> = {
  lost: ['query-lost', 'lost'],
  remapped: ['query-remaps', 'remaps'],
  errors: ['query-error-history', 'blocks'],
}

async function rangesOfServer(client: QmpClient, sort: Sort): Promise<SectorRange[]> {
  const [command, member] = LISTS[sort]
  const pages = await allPages(client, command, member, RANGES_MAX + 1)
  return pages.map(({ 'main-sector': sector, sectors }) => ({ sector, sectors }))
}

/** What is listed of a disk is taken for unreadable: in an image that was rescued there is nothing. */
async function ofDisk(disk: string, given: readonly SectorRange[] | undefined, options: FilesOptions): Promise<void> {
  if (!given || options.spare) throw new UsageError('--disk alone needs sectors or --from: which sectors are meant?')
  const isMissing = options.from !== undefined
  await withDisk(disk, (device) => look(device, { ranges: given, what: 'given', isMissing }, options))
}

async function withDisk(location: string, work: (device: Device) => Promise<void>): Promise<void> {
  const { openDisk } = await import('../device/open.js')
  const { device } = await openDisk(location, { readOnly: true, unlocked: true, log: stderrLog('warn') })
  try {
    await work(device)
  } finally {
    await device.close()
  }
}

async function ofPair(main: string, given: readonly SectorRange[] | undefined, options: FilesOptions): Promise<void> {
  const { spare: spares = [], of: sort = 'lost' } = options
  if (spares.length === 0) throw new UsageError('--main needs --spare')
  if (sort === 'errors') throw new UsageError('--of errors needs --control: errors are remembered by the server')
  const { withReadOnlyPair } = await import('./offline-pair.js')
  await withReadOnlyPair({ main, spares }, stderrLog('warn'), async ({ target }) => {
    const { listLost, listRemaps } = await import('../remap/listing.js')
    const list = sort === 'lost' ? listLost : listRemaps
    const { ranges } = await list(target, { fromSector: 0, limit: RANGES_MAX + 1 })
    const own = ranges.map(({ mainSector, sectors }) => ({ sector: mainSector, sectors }))
    const isMissing = given === undefined && sort === 'lost'
    await look(target, { ranges: given ?? own, what: given ? 'given' : sort, isMissing }, options)
  })
}

interface Wanted {
  readonly ranges: readonly SectorRange[]
  readonly what: Looked['what']
  /** They are known to be unreadable. */
  readonly isMissing: boolean
}

async function look(device: Device, { ranges, what, isMissing }: Wanted, options: FilesOptions): Promise<void> {
  const wanted = bytesOf(ranges, device.size)
  const disk = new PatchyDisk(device.size, isMissing ? wanted : new RangeSet(), (offset, length) =>
    readFrom(device, offset, length),
  )
  const progress = new ProgressLine()
  try {
    const report = await examineDisk(disk, wanted, {
      partition: options.partition,
      onProgress: (doing, done, total) => {
        progress.show(`${doing}: ${done} of ${total}`)
      },
    })
    progress.end()
    const isCut = ranges.length > RANGES_MAX
    const notes = isCut ? [`there are more than ${RANGES_MAX} ranges: only the first ones are looked up`] : []
    printFiles({ report, what, disk: device.name, notes, unreadableSectors: disk.unreadableSectors }, options)
  } finally {
    progress.end()
  }
}

/** @throws UsageError when they are on no disk of this size */
function bytesOf(ranges: readonly SectorRange[], size: number): RangeSet {
  const bytes = new RangeSet()
  const sorted = ranges.slice(0, RANGES_MAX).sort((a, b) => a.sector - b.sector)
  for (const { sector, sectors } of sorted) {
    const end = (sector + sectors) * SECTOR_SIZE
    if (end > size + SECTOR_SIZE - 1)
      throw new UsageError(`sector ${sector + sectors - 1} is behind the end of the disk, which has ${size} bytes`)
    bytes.append(sector * SECTOR_SIZE, Math.min(end, size))
  }
  return bytes
}

async function readFrom(device: Device, offset: number, length: number): Promise<Buffer | undefined> {
  const data = Buffer.allocUnsafe(length)
  try {
    await device.read(offset, data)
    return data
  } catch (error) {
    if (error instanceof DeviceError && error.code === 'EIO') return undefined
    throw error
  }
}
