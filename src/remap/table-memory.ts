/** What the remap table takes in memory, before there is one. docs/REMAP-TABLE.md explains the parts. */
import { SLOTS_PER_PAGE } from '../spare/format.js'
import { CHUNK_SLOTS, RECORD_BYTES } from '../spare/slot-records.js'
import { CHUNK_BUCKETS, regionBlocksOf } from './table.js'
import { TABLE_SETTINGS_DEFAULT, type TableSettings } from './table-settings.js'

const BUCKET_BYTES = Uint32Array.BYTES_PER_ELEMENT
const REGION_BYTES = Uint32Array.BYTES_PER_ELEMENT
const PAGE_SEQUENCE_BYTES = Float64Array.BYTES_PER_ELEMENT

/** Bytes for so many remaps, whose slots lie one after the other, as long as no sector is lost. */
export function tableMemory(
  mainBlocks: number,
  remaps: number,
  { bucketsMin, growLoad }: TableSettings = TABLE_SETTINGS_DEFAULT,
): number {
  let buckets = bucketsMin
  while (remaps * 100 > buckets * growLoad) buckets *= 2
  const records = Math.ceil(remaps / CHUNK_SLOTS) * CHUNK_SLOTS * RECORD_BYTES
  const heads = Math.ceil(buckets / CHUNK_BUCKETS) * CHUNK_BUCKETS * BUCKET_BYTES
  const regions = Math.ceil(mainBlocks / regionBlocksOf(mainBlocks)) * REGION_BYTES
  return records + heads + regions + Math.ceil(remaps / SLOTS_PER_PAGE) * PAGE_SEQUENCE_BYTES
}
