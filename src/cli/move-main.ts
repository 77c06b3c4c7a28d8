/** `nbd-remap move-main`: a pair gets another main disk, as big or bigger. Offline. */
import { Command } from 'commander'
import type { LostRange, MovedMain } from '../remap/move-main.js'
import { stderrLog } from '../util/log.js'
import { formatBytes } from '../util/units.js'
import { withOfflinePair } from './offline-pair.js'
import { fromOption, jsonOption, sparesOption, toOption } from './options.js'
import { ProgressLine } from './progress-line.js'

interface MoveMainCommandOptions {
  readonly from: string
  readonly to: string
  readonly spare: readonly string[]
  readonly force?: boolean
  readonly json?: boolean
}

export const moveMainCommand = (): Command =>
  new Command('move-main')
    .description(
      'Copy all that a pair serves to a healthy main disk, and bind the spares to it. The pair must not be served.',
    )
    .addOption(fromOption('the main disk until now'))
    .addOption(toOption('the new main disk, as big or bigger'))
    .addOption(sparesOption('the spare'))
    .option('--force', 'overwrite a new main disk that is not blank')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Sectors whose content is lost are listed, and stay lost on the new main until they are written. Remaps are needed no more. When it
is cut off, the pair is what it was, and the same command goes on where it had come to. The old main disk is only read.

Exit codes: 0 moved, 1 failed: the pair is what it was, 3 a disk is in use, or is not what it should be.

Example:
  nbd-remap move-main --from /dev/sdb --to /dev/sdd --spare spare.img`,
    )
    .action(move)

async function move({ from, to, spare: spares, force = false, json }: MoveMainCommandOptions): Promise<void> {
  const [{ openDisk }, { moveMain }] = await Promise.all([import('../device/open.js'), import('../remap/move-main.js')])
  const log = stderrLog()
  const target = await openDisk(to, { readOnly: false, log })
  const progress = new ProgressLine()
  try {
    const moved = await withOfflinePair({ main: from, spares }, log, (pair, signal) =>
      moveMain(pair, target, {
        force,
        signal,
        onProgress: (done, total) => {
          progress.showBytes('copying', done, total)
        },
      }),
    )
    progress.end()
    process.stdout.write(json ? `${JSON.stringify(asJson(moved))}\n` : describe(moved, from, to))
  } finally {
    progress.end()
    await target.device.close()
  }
}

const asJson = ({ size, resumedAt, lost }: MovedMain) => ({ size, 'resumed-at': resumedAt, lost })

const describe = ({ size, lost }: MovedMain, from: string, to: string): string =>
  [`${from} moved to ${to} (${formatBytes(size)})`, ...lost.map(describeLost), ''].join('\n')

const describeLost = ({ sector, sectors }: LostRange): string => `lost: ${sectors} sectors from sector ${sector} on`
