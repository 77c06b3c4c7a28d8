/**
 * The metadata of a spare as a file: its header and its slot table, one copy of each, from which `import` makes all copies
 * on the same spare again. The data blocks are not in it: what was written to a block that was remapped later stays
 * on the spare, and nothing says any more where it belongs.
 */
import type { Device } from '../device/device.js'
import { silentLog } from '../util/log.js'
import { encodeHeader, PAGE_SIZE } from './format.js'
import { RANGE_LENGTH_MAX, writeMetadataFile, type FileRange } from './metadata-file.js'
import { Spare } from './spare.js'

const PAGES_PER_RANGE = RANGE_LENGTH_MAX / PAGE_SIZE

export interface ExportReport {
  readonly spare: string
  readonly file: string
  readonly slotPages: number
  readonly slots: { readonly remapped: number; readonly retired: number }
}

/** Changes nothing on the spare. @throws RefusedError when something of its metadata is lost; MetadataFileError */
export async function exportSpare(device: Device, path: string): Promise<ExportReport> {
  const spare = await Spare.open(device, silentLog)
  spare.refuseIfLost()
  const { uuid, sequence, geometry } = spare.header
  const head = { kind: 'export' as const, uuid, spareSize: geometry.spareSize, headerSequence: sequence }
  await writeMetadataFile(path, { ...head, contents: contentsOf(spare) })
  const { remapped, retired } = spare.counts
  return { spare: device.name, file: path, slotPages: spare.slots.initialisedPages, slots: { remapped, retired } }
}

function* contentsOf({ header, geometry, slots }: Spare): Generator<FileRange> {
  const bytes = encodeHeader(header, 0)
  yield { offset: 0, length: bytes.length, bytes }
  for (let first = 0; first < slots.initialisedPages; first += PAGES_PER_RANGE) {
    const pages = slots.encoded(first, Math.min(PAGES_PER_RANGE, slots.initialisedPages - first))
    yield { offset: geometry.slotTableOffsets[0] + first * PAGE_SIZE, length: pages.length, bytes: pages }
  }
}
