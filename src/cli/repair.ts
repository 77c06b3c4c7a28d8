/** `nbd-remap repair`: rewrites damaged copies of the metadata of a spare, after it has shown which. */
import { Command } from 'commander'
import type { RestoreReport } from '../spare/backup.js'
import type { RepairPlan, SpareRepair } from '../spare/repair.js'
import { UsageError } from '../util/errors.js'
import { stderrLog } from '../util/log.js'
import { backupName, confirm } from './confirm.js'
import { EXIT } from './exit.js'
import { checkOnline, oneOf } from './online-check.js'
import { jsonOption, optionalControlOption, spareOption } from './options.js'

interface RepairCommandOptions {
  readonly spare?: string
  readonly control?: string
  readonly yes?: boolean
  readonly backup?: string
  readonly acceptLostPages?: boolean
  readonly restore?: string
  readonly force?: boolean
  readonly json?: boolean
}

export const repairCommand = (): Command =>
  new Command('repair')
    .description('Rewrite damaged copies of the metadata of a spare from the intact ones. Keeps what it replaces.')
    .addOption(spareOption('the spare, which is not being served').makeOptionMandatory(false))
    .addOption(
      optionalControlOption('instead, control socket of a server, which repairs from its memory and needs no backup'),
    )
    .option('--yes', 'do not ask')
    .option('--backup <file>', 'keep what is replaced in this new file, not in one in the current folder')
    .option('--accept-lost-pages', 'make slot pages empty of which no copy is intact: their remaps are gone for good')
    .option('--restore <file>', 'put back what a repair or an import replaced, from its backup')
    .option('--force', 'with --restore: although the spare was in use since')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Shows what it would rewrite, and asks; where there is no terminal it needs --yes. What serve repairs when it starts is the
same. When no copy of a slot page is intact, nobody knows which blocks it had remapped: serve refuses the spare, and so does
repair. An export of the metadata (nbd-remap import) brings them back. With --accept-lost-pages such a page becomes an
empty one, and the blocks that it had remapped read as what the main disk holds, which is older, or as EIO.

Exit codes: 0 everything is intact now, 1 something is still wrong, such as a copy that cannot be written, or it was not
wanted, 3 not a spare, in use, or damaged beyond repair.

Example:
  nbd-remap repair --spare spare.img
  nbd-remap repair --control /run/disk.qmp`,
    )
    .action(repair)

const repair = (options: RepairCommandOptions): Promise<void> =>
  oneOf(
    options,
    (spare) => repairOffline(spare, options),
    (control) => repairOnline(control, options),
  )

async function repairOnline(control: string, options: RepairCommandOptions): Promise<void> {
  const { acceptLostPages, backup, restore } = options
  if (acceptLostPages || backup !== undefined || restore !== undefined)
    throw new UsageError('--accept-lost-pages, --backup and --restore go with --spare: a server has nothing to lose')
  await checkOnline('repair', control, options.json)
}

async function repairOffline(location: string, options: RepairCommandOptions): Promise<void> {
  if (options.force && options.restore === undefined) throw new UsageError('--force goes with --restore')
  const [{ openDisk }, { SpareRepair }] = await Promise.all([import('../device/open.js'), import('../spare/repair.js')])
  const { device } = await openDisk(location, { readOnly: false, log: stderrLog() })
  try {
    if (options.restore === undefined) await repairSpare(await SpareRepair.plan(device, stderrLog()), options)
    else await restoreFrom(options.restore, options, device)
  } finally {
    await device.close()
  }
}

async function repairSpare(found: SpareRepair, options: RepairCommandOptions): Promise<void> {
  const { plan } = found
  if (!options.json) process.stdout.write(describePlan(plan))
  if (plan.isIntact) {
    if (options.json) print({ ...plan, backup: null, problems: [] })
    return
  }
  const { acceptLostPages = false } = options
  if (found.lostPages.length > 0 && !acceptLostPages) found.refuseIfLost()
  if (!(await confirm('Rewrite them?', options.yes ?? false))) {
    process.exitCode = EXIT.failed
    return
  }
  const backup = options.backup ?? backupName(plan.uuid)
  await found.backUp(backup)
  if (!options.json) process.stdout.write(`backup:   ${backup}\n`)
  const problems = await found.apply({ acceptLostPages })
  if (options.json) print({ ...plan, backup, problems })
  else process.stdout.write(describeOutcome(problems))
  process.exitCode = problems.length === 0 ? EXIT.done : EXIT.failed
}

async function restoreFrom(
  file: string,
  options: RepairCommandOptions,
  device: Parameters<typeof import('../spare/backup.js').restore>[0],
): Promise<void> {
  const { restore } = await import('../spare/backup.js')
  if (!(await confirm(`Put back what ${file} holds?`, options.yes ?? false))) {
    process.exitCode = EXIT.failed
    return
  }
  const report = await restore(device, file, options.force ?? false)
  if (options.json) print(report)
  else process.stdout.write(describeRestore(report))
}

const print = (value: unknown): void => {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`)
}

function describePlan(plan: RepairPlan): string {
  const lines = [
    `spare:    ${plan.spare} (${plan.uuid})`,
    ...plan.headerCopies.map(({ copy, reason }) => `rewrites: header copy ${copy}: ${reason}`),
    ...plan.slotPages.flatMap(({ page, bad, lost }) =>
      lost
        ? [`LOST:     slot page ${page}: no copy is intact (${bad.map(({ reason }) => reason).join('; ')})`]
        : bad.map(({ copy, reason }) => `rewrites: slot page ${page}, copy ${copy}: ${reason}`),
    ),
    ...plan.retires.map((slot) => `retires:  slot ${slot}: what it stands for has a newer slot, or is no block`),
  ]
  if (plan.isIntact) lines.push('result:   intact, nothing to do')
  return `${lines.join('\n')}\n`
}

const describeOutcome = (problems: readonly string[]): string =>
  [
    ...problems.map((problem) => `WRONG:    ${problem}`),
    ...(problems.length === 0
      ? ['result:   intact']
      : [
          `result:   ${problems.length} problem(s) left: most likely the spare has bad sectors there, so replace it:`,
          '          "nbd-remap spare add" another one and "nbd-remap spare remove" this one while it is served',
        ]),
    '',
  ].join('\n')

const describeRestore = ({ spare, written, leftAlone }: RestoreReport): string =>
  [
    `spare:    ${spare}`,
    `result:   ${written} bytes put back`,
    ...(leftAlone === 0 ? [] : [`          ${leftAlone} bytes could not be read for the backup, and were left alone`]),
    '',
  ].join('\n')
