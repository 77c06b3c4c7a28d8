/** `nbd-remap format`: writes an empty spare for a main disk. */
import { Command } from 'commander'
import { stderrLog } from '../util/log.js'
import { DISK_HELP, mainOption, parseBytes } from './options.js'

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
    .requiredOption('--spare <spare>', `the disk that takes the bad blocks: ${DISK_HELP}`)
    .option('--block-size <bytes>', 'unit of remapping, a power of two from 512 to 32768 (default: 4096)', parseBytes)
    .option('--force', 'overwrite a spare that is not blank')
    .addHelpText('after', '\nExample:\n  nbd-remap format --main /dev/sdb --spare /dev/sdc')
    .action(format)

async function format(options: FormatCommandOptions): Promise<void> {
  const [{ openDisk }, { formatPair }] = await Promise.all([import('../device/open.js'), import('../remap/pair.js')])
  const log = stderrLog()
  const blockSize = options.blockSize === undefined ? {} : { blockSize: options.blockSize }
  const main = await openDisk(options.main, { readOnly: true, log })
  try {
    const spare = await openDisk(options.spare, { readOnly: false, log })
    try {
      await formatPair({ main, spare }, { ...blockSize, force: options.force ?? false, log })
    } finally {
      await spare.device.close()
    }
  } finally {
    await main.device.close()
  }
  process.stdout.write(`${options.spare} is formatted as the spare of ${options.main}\n`)
}
