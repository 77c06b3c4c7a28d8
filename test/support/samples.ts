/** Structures of the spare with a value in every field, and where the fixtures lie. */
import { fileURLToPath } from 'node:url'
import { emptyPage, FORMAT_VERSION, layOut, SLOTS_PER_PAGE, writeSlot, type Header } from '../../src/spare/format.js'
import { mainBlock, MiB } from '../../src/util/units.js'

/** Tests run from dist/test/, the fixtures stay in test/. */
export const fixture = (name: string): string =>
  fileURLToPath(new URL(`../../../test/fixtures/${name}`, import.meta.url))

export const SAMPLE_UUID = Buffer.from('00112233445566778899aabbccddeeff', 'hex')

export const sampleHeader: Header = {
  version: FORMAT_VERSION,
  uuid: SAMPLE_UUID,
  sequence: 0x1122334455,
  ownerEpoch: 7,
  clean: true,
  geometry: layOut(4096 * MiB + 512, 16 * MiB, 4096)!,
  initialisedPages: 3,
  notes: {
    main: { id: 'file:4711', location: '/disks/main.img', fingerprint: [0, 0xffffffff, -1] },
    createdAt: '2026-01-31T12:00:00.000Z',
    pool: {
      uuid: SAMPLE_UUID,
      sequence: 3,
      standing: 'member',
      opening: false,
      members: [
        { uuid: SAMPLE_UUID, location: '/disks/spare.img' },
        { uuid: Buffer.alloc(16, 7), location: 'nbd://host/spare' },
      ],
      removed: [{ uuid: Buffer.alloc(16, 8), location: '/disks/old.img' }],
    },
  },
}

/** Slots 0 to 2 and the last one are in use. */
export function samplePage(): Buffer {
  const page = emptyPage()
  const remapped = { state: 'remapped', generation: 1, lostMask: 0n } as const
  writeSlot(page, 0, { ...remapped, mainBlock: mainBlock(0) })
  writeSlot(page, 1, { ...remapped, mainBlock: mainBlock(0xfedcba987654), generation: 0x123456789abc, lostMask: 0x81n })
  writeSlot(page, 2, { state: 'retired', mainBlock: mainBlock(0), generation: 3, lostMask: 0n })
  writeSlot(page, SLOTS_PER_PAGE - 1, { ...remapped, mainBlock: mainBlock(9), lostMask: 2n ** 63n })
  return page
}
