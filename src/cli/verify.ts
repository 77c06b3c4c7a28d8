/** `nbd-remap verify`: is the metadata of a spare intact? Offline; changes nothing. */
import { Command } from 'commander'
import type { VerifyReport } from '../spare/verify.js'
import { stderrLog } from '../util/log.js'
import { formatBytes } from '../util/units.js'
import { EXIT } from './exit.js'
import { checkOnline, oneOf } from './online-check.js'
import { jsonOption, optionalControlOption, spareOption } from './options.js'

interface VerifyCommandOptions {
  readonly spare?: string
  readonly control?: string
  readonly json?: boolean
}

export const verifyCommand = (): Command =>
  new Command('verify')
    .description('Check every copy of the metadata on a spare, or on the spares of a running server. Changes nothing.')
    .addOption(spareOption('the spare, which is not being served').makeOptionMandatory(false))
    .addOption(optionalControlOption('instead, control socket of the server'))
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Exit codes: 0 all copies are intact and agree, 1 something is wrong (after a crash that is normal, and the next "serve"
repairs it), 3 not a spare, in use, or damaged beyond what can be believed.

Example:
  nbd-remap verify --spare spare.img --json
  nbd-remap verify --control /run/disk.qmp`,
    )
    .action(verify)

const verify = (options: VerifyCommandOptions): Promise<void> =>
  oneOf(
    options,
    (spare) => verifyOffline(spare, options),
    (control) => checkOnline('verify', control, options.json),
  )

async function verifyOffline(location: string, options: VerifyCommandOptions): Promise<void> {
  const [{ openDisk }, { verifySpare }] = await Promise.all([import('../device/open.js'), import('../spare/verify.js')])
  const spare = await openDisk(location, { readOnly: true, log: stderrLog() })
  try {
    const report = await verifySpare(spare.device)
    process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : describe(report))
    process.exitCode = report.problems.length === 0 ? EXIT.done : EXIT.failed
  } finally {
    await spare.device.close()
  }
}

function describe(report: VerifyReport): string {
  const { slots, main } = report
  const lines = [
    `spare:    ${report.spare}, last stop ${report.clean ? 'clean' : 'not clean'}`,
    `main:     ${main.location}, ${formatBytes(main.size)}`,
    `blocks:   ${slots.total} of ${formatBytes(report.blockSize)}: ${slots.remapped} remapped (${slots.lost} with lost sectors), ${slots.retired} retired`,
    `checked:  ${report.headerCopies} header copies, ${report.slotPages} slot pages in 2 copies`,
    ...report.problems.map((problem) => `WRONG:    ${problem}`),
    report.problems.length === 0 ? 'result:   intact' : `result:   ${report.problems.length} problem(s)`,
  ]
  return `${lines.join('\n')}\n`
}
