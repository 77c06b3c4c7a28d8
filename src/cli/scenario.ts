/** `nbd-remap scenario list|run|check|report`: the options. What they do is loaded when it is wanted. */
import { Command, InvalidArgumentError } from 'commander'
import { jsonOption } from './options.js'
import type { PictureOptions, ReportOptions } from './write-reports.js'

export interface RunCommandOptions extends ReportOptions {
  readonly seed?: string
  readonly control: boolean
  readonly keep?: boolean
  readonly jobs?: number
  readonly set?: Readonly<Record<string, string | number | boolean>>
}

export function scenarioCommand(): Command {
  const scenario = new Command('scenario').description('Run scenarios: QEMU virtual machines on disks that fail.')
  for (const command of [listCommand(), runCommand(), checkCommand(), reportCommand()]) scenario.addCommand(command)
  return scenario.addHelpText('after', '\nExample:\n  nbd-remap scenario run bad-blocks-under-load')
}

const listCommand = (): Command =>
  new Command('list')
    .description('List the scenarios that come with nbd-remap.')
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  nbd-remap scenario list')
    .action(async (options: { json?: boolean }) => {
      const { listScenarios } = await import('./scenario-run.js')
      listScenarios(options)
    })

const runCommand = (): Command =>
  new Command('run')
    .description('Run scenarios, each with its control run, and report.')
    .argument(
      '[scenarios...]',
      'names of those that come with nbd-remap, or files; all that come with it when none is named',
    )
    .option('--seed <seed>', 'repeat an earlier run: what is drawn is the same')
    .option('--set <name=value>', 'change a parameter of the scenario; may be repeated', parseSetting)
    .option('--no-control', 'leave out the control runs')
    .option('--jobs <n>', 'so many runs and control runs at a time; one for every two cores when not given', parseJobs)
    .option('--keep', 'keep images, console logs and logs of all programs, and say where they are')
    .option('--tap', 'report as TAP on standard output, which is also what happens without any report')
    .option('--junit <file>', 'write a report as JUnit XML')
    .option('--json <file>', 'write a report as JSON (docs/runs.schema.json)')
    .option('--html <file>', 'write a report as one HTML page, with a timeline of each run')
    .addHelpText(
      'after',
      `
A scenario is a file in YAML (docs/SCENARIOS.md). It passes when everything holds that it says, and when its control run, which
is the same without the part of nbd-remap that it shows, fails as it says. Needs QEMU and the guest image ("npm run setup"
installs both). Ctrl-C ends it at any time and leaves nothing behind.

Exit codes: 0 all passed, 1 some did not, 2 wrong usage, or a file that is not a scenario.

Example:
  nbd-remap scenario run bad-blocks-under-load my-own.yaml --html report.html --junit report.xml`,
    )
    .action(async (names: readonly string[], options: RunCommandOptions) => {
      const { runScenarios } = await import('./scenario-run.js')
      await runScenarios(names, options)
    })

const checkCommand = (): Command =>
  new Command('check')
    .description('Read scenario files, and say what is wrong with them.')
    .argument('<files...>', 'names of scenarios, or files')
    .addHelpText(
      'after',
      `
Exit codes: 0 they can be run, 2 some cannot: a line for each thing that is wrong, with its place.

Example:
  nbd-remap scenario check my-own.yaml`,
    )
    .action(async (files: readonly string[]) => {
      const { checkScenarios } = await import('./scenario-run.js')
      checkScenarios(files)
    })

const reportCommand = (): Command =>
  new Command('report')
    .description('Write reports of runs that were kept as JSON, of several files as one.')
    .argument('<files...>', 'what "scenario run --json" has written; - is standard input')
    .option('--tap', 'report as TAP on standard output, which is also what happens without any report')
    .option('--junit <file>', 'write a report as JUnit XML')
    .option('--json <file>', 'write a report as JSON (docs/runs.schema.json)')
    .option('--html <file>', 'write a report as one HTML page, with a timeline of each run')
    .option('--svg <file>', 'write the timeline of the first run alone, as a picture')
    .addHelpText(
      'after',
      `
Exit codes: 0 all passed, 1 some did not, 2 a file is not such a report.

Example:
  nbd-remap scenario report monday.json tuesday.json --html week.html`,
    )
    .action(async (files: readonly string[], options: PictureOptions) => {
      const { reportRuns } = await import('./scenario-report.js')
      await reportRuns(files, options)
    })

type Settings = Readonly<Record<string, string | number | boolean>>

function parseSetting(text: string, before: Settings = {}): Settings {
  const [, name = '', value = ''] = /^([\w-]+)=(.*)$/s.exec(text) ?? []
  if (name === '') throw new InvalidArgumentError('It must be NAME=VALUE.')
  const typed = /^-?\d+(\.\d+)?$/.test(value)
    ? Number(value)
    : value === 'true' || value === 'false'
      ? value === 'true'
      : value
  return { ...before, [name]: typed }
}

const JOBS_MAX = 64

function parseJobs(text: string): number {
  const jobs = Number(text)
  if (!Number.isInteger(jobs) || jobs < 1 || jobs > JOBS_MAX)
    throw new InvalidArgumentError(`It must be a number from 1 to ${JOBS_MAX}.`)
  return jobs
}
