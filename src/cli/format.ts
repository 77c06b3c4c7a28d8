/** `nbd-remap format`: writes an empty spare for a main disk. */
import { Command } from 'commander'
import { stderrLog } from '../util/log.js'
import { BLOCK_SIZE_HELP, mainOption, parseBlockSize, spareOption } from './options.js'

interface FormatCommandOptions {
  readonly main: string
  readonly spare: string
  readonly blockSize?: number
  readonly force?: boolean
}

export const formatCommand = (): Command =>
  new Command('format')
    .description('Write an empty spare for a main disk. The main disk is only read.')
    .addOption(mainOption())
    .addOption(spareOption('the disk that takes the bad blocks'))
    .option('--block-size <bytes>', BLOCK_SIZE_HELP, parseBlockSize)
    .option('--force', 'overwrite a spare that is not blank')
    .addHelpText('after', '\nExample:\n  nbd-remap format --main /dev/sdb --spare /dev/sdc')
    .action(format)

async function format(options: FormatCommandOptions): Promise<void> {
  const { formatPair, openDisks } = await import('../remap/pair.js')
  const log = stderrLog()
  const disks = await openDisks(options, { mainReadOnly: true, spareReadOnly: false, log })
  try {
    const { blockSize, force = false } = options
    await formatPair(disks, { force, log, ...(blockSize === undefined ? {} : { blockSize }) })
  } finally {
    await disks.main.device.close()
    await disks.spare.device.close()
  }
  process.stdout.write(`${options.spare} is formatted as the spare of ${options.main}\n`)
}
