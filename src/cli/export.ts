/** `nbd-remap export`: the metadata of a spare as a file. */
import { Command } from 'commander'
import { stderrLog } from '../util/log.js'
import { jsonOption, spareOption } from './options.js'

export const exportCommand = (): Command =>
  new Command('export')
    .description('Write the metadata of a spare that is not being served to a new file, as a backup. Changes nothing.')
    .argument('<file>', 'the file; it must not exist')
    .addOption(spareOption('the spare'))
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
The file has the headers and the slot table, not the data blocks. nbd-remap import puts it on the same spare again. It is
worth what was true when it was made: remaps made later are not in it. Of a pool each spare has a file of its own.

Exit codes: 0 done, 1 the file cannot be written, 3 not a spare, in use, or damaged.

Example:
  nbd-remap export --spare spare.img spare.meta`,
    )
    .action(exportMetadata)

async function exportMetadata(
  file: string,
  options: { readonly spare: string; readonly json?: boolean },
): Promise<void> {
  const [{ openDisk }, { exportSpare }] = await Promise.all([import('../device/open.js'), import('../spare/export.js')])
  const { device } = await openDisk(options.spare, { readOnly: true, log: stderrLog() })
  try {
    const report = await exportSpare(device, file)
    const { remapped, retired } = report.slots
    process.stdout.write(
      options.json
        ? `${JSON.stringify(report)}\n`
        : `${file}: header and ${report.slotPages} slot pages of ${report.spare}, ${remapped} remapped and ${retired} retired blocks\n`,
    )
  } finally {
    await device.close()
  }
}
