/** `nbd-remap format`: writes an empty spare for a main disk. */
import { Command } from 'commander'
import { stderrLog } from '../util/log.js'
import { BLOCK_SIZE_HELP, mainOption, parseBlockSize, sparesOption } from './options.js'

interface FormatCommandOptions {
  readonly main: string
  readonly spare: readonly string[]
  readonly blockSize?: number
  readonly force?: boolean
}

export const formatCommand = (): Command =>
  new Command('format')
    .description('Write empty spares for a main disk. The main disk is only read.')
    .addOption(mainOption())
    .addOption(sparesOption('a disk that takes the bad blocks'))
    .option('--block-size <bytes>', BLOCK_SIZE_HELP, parseBlockSize)
    .option('--force', 'overwrite spares that are not blank')
    .addHelpText('after', '\nExample:\n  nbd-remap format --main /dev/sdb --spare /dev/sdc')
    .action(format)

async function format(options: FormatCommandOptions): Promise<void> {
  const [{ closeDisks, openDisks }, { formatPair }] = await Promise.all([
    import('../remap/pair-disks.js'),
    import('../remap/pair.js'),
  ])
  const log = stderrLog()
  const { main, spare: spares } = options
  const opening = { mainReadOnly: true, mainBesideQemu: true, spareReadOnly: false }
  const disks = await openDisks({ main, spares }, { ...opening, log })
  try {
    const [away] = disks.unopened ?? []
    if (away) throw away.error
    const { blockSize, force = false } = options
    await formatPair(disks, { force, log, ...(blockSize === undefined ? {} : { blockSize }) })
  } finally {
    await closeDisks(disks)
  }
  process.stdout.write(
    `${spares.join(', ')}: formatted as the ${spares.length === 1 ? 'spare' : 'spares'} of ${main}\n`,
  )
}
