/** `nbd-remap files`: which files the sectors belong to that are lost, remapped or bad. */
import { Command, InvalidArgumentError, Option } from 'commander'
import type { ListFormat } from '../util/lists/list.js'
import {
  DISK_HELP,
  jsonOption,
  listFormatOption,
  optionalControlOption,
  parseCount,
  parseLength,
  parseLocation,
  parseSector,
  statusesOption,
  unitOption,
} from './options.js'

export const SORTS = ['lost', 'remapped', 'errors'] as const
export type Sort = (typeof SORTS)[number]

export interface SectorRange {
  readonly sector: number
  readonly sectors: number
}

export interface FilesOptions {
  readonly control?: string
  readonly main?: string
  readonly spare?: readonly string[]
  readonly disk?: string
  readonly of?: Sort
  readonly from?: string
  readonly format?: ListFormat
  readonly unit: number
  readonly statuses: string
  readonly partition?: number
  readonly limit: number
  readonly print0?: boolean
  readonly json?: boolean
}

export const filesCommand = (): Command =>
  new Command('files')
    .description('Say which files the lost sectors of a disk belong to, or its remapped or bad ones. Changes nothing.')
    .argument('[sectors...]', 'look up these instead: SECTOR, or SECTOR+COUNT', parseRanges)
    .addOption(optionalControlOption('control socket of the server'))
    .addOption(new Option('--main <main>', `of a pair that is not being served: ${DISK_HELP}`).argParser(parseLocation))
    .addOption(
      new Option('--spare <spare>', 'its spare; several make one pool').argParser(
        (value: string, previous: readonly string[] | undefined) => [...(previous ?? []), parseLocation(value)],
      ),
    )
    .addOption(
      new Option('--disk <disk>', `a disk, or another way to the one that the server has: ${DISK_HELP}`).argParser(
        parseLocation,
      ),
    )
    .addOption(new Option('--of <sectors>', 'which sectors of the pair (default: lost)').choices(SORTS))
    .option('--from <file>', 'look up the ranges of this list instead; - reads standard input')
    .addOption(listFormatOption('of the list; guessed if absent'))
    .addOption(unitOption())
    .addOption(statusesOption())
    .option('--partition <n>', 'look up only what lies in this partition', parseCount(1))
    .option('--limit <n>', 'lines to print at most', parseCount(1), 1000)
    .addOption(new Option('--print0', 'print the paths of damaged files and nothing else, each with a NUL behind it'))
    .addOption(jsonOption().conflicts('print0'))
    .addHelpText(
      'after',
      `
Reads ext2, ext3 and ext4, in partitions (MBR, GPT) or on the whole disk, as the server gives them. Of other file systems, and of
what lies in LVM, RAID or encryption, it says only that. While a guest is running, its file system changes: what it has not yet
written to the disk, or written to its journal only, is not seen. For an exact answer unmount or freeze it (fsfreeze) meanwhile.

--disk with sectors or --from needs no pair: a disk, an image, or the map that ddrescue made beside one, whose gaps are
not read.

Paths begin at the root of their file system. Names with unusual characters are printed in quotes, as JSON has them. Directories are
not among what --print0 prints: what is in them is not damaged, but may have no name any more.

Exit codes: 0 it is known of all sectors whose they are, 1 failed, or of some it is not known.

Example:
  nbd-remap files --control /run/disk.qmp
  nbd-remap files --control /run/disk.qmp --print0 | rsync -a --files-from=- --from0 backup:/ /mnt/
  nbd-remap files --disk rescued.img --from rescue.map
  nbd-remap files --disk /dev/sdb 1953525120+8`,
    )
    .action(async (sectors: readonly SectorRange[], options: FilesOptions) => {
      const { findFiles } = await import('./find-files.js')
      await findFiles(sectors, options)
    })

function parseRanges(text: string, previous: readonly SectorRange[] | undefined): readonly SectorRange[] {
  const [first = '', count, ...more] = text.split('+')
  if (more.length > 0) throw new InvalidArgumentError('It must be SECTOR or SECTOR+COUNT.')
  return [...(previous ?? []), { sector: parseSector(first), sectors: count === undefined ? 1 : parseLength(count) }]
}
