/** `nbd-remap import`: puts exported metadata on its spare again. */
import { Command } from 'commander'
import type { ImportPlan, SpareImport } from '../spare/import.js'
import { RefusedError } from '../util/errors.js'
import { stderrLog } from '../util/log.js'
import { backupName, confirm } from './confirm.js'
import { EXIT } from './exit.js'
import { jsonOption, spareOption } from './options.js'

interface ImportCommandOptions {
  readonly spare: string
  readonly yes?: boolean
  readonly backup?: string
  readonly force?: boolean
  readonly json?: boolean
}

export const importCommand = (): Command =>
  new Command('import')
    .description('Put metadata that nbd-remap export wrote on the same spare again. Keeps what it replaces.')
    .argument('<file>', 'the file that export wrote')
    .addOption(spareOption('the spare it is of, which is not being served'))
    .option('--yes', 'do not ask')
    .option('--backup <file>', 'keep what is replaced in this new file, not in one in the current folder')
    .option('--force', 'although newer remaps would be forgotten, or nothing says that it is the right spare')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Refused when the spare has newer remaps than the file: they would be forgotten, and what was written to those blocks since
would be lost. What is cut off is refused by serve; run it again then. A spare of a pool whose other spares were served
since is refused by serve as stale.

Exit codes: 0 done, 1 failed, or it was not wanted, 3 not the spare that the file is of, in use, or newer than the file.

Example:
  nbd-remap import --spare spare.img spare.meta`,
    )
    .action(importMetadata)

async function importMetadata(file: string, options: ImportCommandOptions): Promise<void> {
  const [{ openDisk }, { SpareImport }] = await Promise.all([import('../device/open.js'), import('../spare/import.js')])
  const { device } = await openDisk(options.spare, { readOnly: false, log: stderrLog() })
  try {
    const found = await SpareImport.plan(device, file)
    try {
      await carryOut(found, options)
    } finally {
      await found.close()
    }
  } finally {
    await device.close()
  }
}

async function carryOut(found: SpareImport, options: ImportCommandOptions): Promise<void> {
  const { plan } = found
  if (!options.json) process.stdout.write(describe(plan))
  if (plan.objections.length > 0 && !options.force)
    throw new RefusedError(`${plan.objections.join('; ')}; add --force if that is wanted`)
  if (!(await confirm('Put it on the spare?', options.yes ?? false))) {
    process.exitCode = EXIT.failed
    return
  }
  const backup = options.backup ?? backupName(plan.uuid)
  await found.backUp(backup)
  await found.apply(stderrLog())
  process.stdout.write(
    options.json ? `${JSON.stringify({ ...plan, backup }, null, 2)}\n` : `backup:   ${backup}\nresult:   done\n`,
  )
}

function describe({ spare, uuid, file, headerSequence, slotPages, objections }: ImportPlan): string {
  const own = headerSequence.spare === 0 ? 'none that can be believed' : `number ${headerSequence.spare}`
  const lines = [
    `spare:    ${spare} (${uuid}), its header: ${own}`,
    `file:     ${file}, its header: number ${headerSequence.file}, ${slotPages} slot pages`,
    ...objections.map((objection) => `WARNING:  ${objection}`),
  ]
  return `${lines.join('\n')}\n`
}
