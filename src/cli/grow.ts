/** `nbd-remap grow`: a spare whose disk has grown gets all of its room. Offline. */
import { Command } from 'commander'
import { stderrLog } from '../util/log.js'
import { jsonOption, spareOption } from './options.js'
import { ProgressLine } from './progress-line.js'

interface GrowOptions {
  readonly spare: string
  readonly json?: boolean
}

export const growCommand = (): Command =>
  new Command('grow')
    .description('Give a spare all the room of its disk, which has grown. The pair must not be served meanwhile.')
    .addOption(spareOption('the spare'))
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
What it holds stays, and it can be cut off at any moment: the spare is then what it was, or has grown. One that uses all of its
disk already stays as it is.

Exit codes: 0 it uses all of its disk, 1 failed, 3 not a spare, in use, not stopped in good order, or grown by too little.

Example:
  truncate -s 2G spare.img
  nbd-remap grow --spare spare.img`,
    )
    .action(grow)

async function grow({ spare: location, json }: GrowOptions): Promise<void> {
  const [{ openDisk }, { growSpare }] = await Promise.all([import('../device/open.js'), import('../remap/grow.js')])
  const log = stderrLog()
  const { device } = await openDisk(location, { readOnly: false, log })
  const progress = new ProgressLine()
  try {
    const grown = await growSpare(device, log, (done, total) => {
      progress.showBytes('growing', done, total)
    })
    progress.end()
    const { blocksBefore, blocks, movedBlocks, lostSectors } = grown
    const report = {
      'blocks-before': blocksBefore,
      blocks,
      'moved-blocks': movedBlocks,
      'lost-sectors': lostSectors,
    }
    const lost = lostSectors > 0 ? `; ${lostSectors} sectors could not be read and are lost` : ''
    process.stdout.write(
      json ? `${JSON.stringify(report)}\n` : `${location}: ${blocksBefore} blocks before, ${blocks} now${lost}\n`,
    )
  } finally {
    progress.end()
    await device.close()
  }
}
