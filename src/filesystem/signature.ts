/** What a partition holds, by the signatures at its start. */
import type { Source } from './source.js'

/** What is there, and what can be said of the sectors in it when their files are not looked up. */
export interface Signature {
  /** As blkid(8) names it. */
  readonly type: string
  readonly detail: string
}

interface Magic extends Signature {
  readonly offset: number
  readonly bytes: string
}

const NOT_LOOKED_UP = 'which files they belong to is not looked up in a file system of this kind'
const LAYER = 'which files they belong to is not looked up in what lies in it'

const MAGICS: readonly Magic[] = [
  { type: 'xfs', offset: 0, bytes: 'XFSB', detail: NOT_LOOKED_UP },
  { type: 'btrfs', offset: 0x10040, bytes: '_BHRfS_M', detail: NOT_LOOKED_UP },
  { type: 'f2fs', offset: 1024, bytes: '\x10\x20\xf5\xf2', detail: NOT_LOOKED_UP },
  { type: 'ntfs', offset: 3, bytes: 'NTFS    ', detail: NOT_LOOKED_UP },
  { type: 'exfat', offset: 3, bytes: 'EXFAT   ', detail: NOT_LOOKED_UP },
  { type: 'vfat', offset: 82, bytes: 'FAT32   ', detail: NOT_LOOKED_UP },
  { type: 'vfat', offset: 54, bytes: 'FAT16   ', detail: NOT_LOOKED_UP },
  { type: 'vfat', offset: 54, bytes: 'FAT12   ', detail: NOT_LOOKED_UP },
  { type: 'squashfs', offset: 0, bytes: 'hsqs', detail: NOT_LOOKED_UP },
  { type: 'iso9660', offset: 0x8001, bytes: 'CD001', detail: NOT_LOOKED_UP },
  {
    type: 'crypto_LUKS',
    offset: 0,
    bytes: 'LUKS\xba\xbe',
    detail: 'encrypted: its files cannot be known from outside',
  },
  { type: 'LVM2_member', offset: 512, bytes: 'LABELONE', detail: LAYER },
  { type: 'linux_raid_member', offset: 4096, bytes: '\xfc\x4e\x2b\xa9', detail: LAYER },
  { type: 'linux_raid_member', offset: 0, bytes: '\xfc\x4e\x2b\xa9', detail: LAYER },
  { type: 'swap', offset: 4086, bytes: 'SWAPSPACE2', detail: 'swap space: no file is in it' },
]

/** More than the last magic needs. */
const START = 0x10100

/** @returns undefined when it is none of those known */
export async function identify(source: Source): Promise<Signature | undefined> {
  const { data } = await source.read(0, START)
  return MAGICS.find(({ offset, bytes }) => data.toString('latin1', offset, offset + bytes.length) === bytes)
}
