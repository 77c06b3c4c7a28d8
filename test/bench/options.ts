/** The command line of the benchmark. */
import { Command, InvalidArgumentError } from 'commander'
import { MiB } from '../../src/util/units.js'
import { parseCount, parseSeconds } from '../../src/cli/options.js'

export interface BenchOptions {
  readonly rounds: number
  readonly seconds: number
  /** Bytes. */
  readonly size: number
  readonly jobs: RegExp | undefined
  /** Files to write; undefined for none, `-` for standard output in place of the table. */
  readonly json: string | undefined
  readonly plot: string | undefined
  readonly check: boolean
}

/** Where the figures of a whole benchmark are kept. */
const JSON_DEFAULT = 'docs/bench.json'
const PLOT_DEFAULT = 'docs/bench.svg'
const ROUNDS_DEFAULT = 3
const SECONDS_DEFAULT = 3
const SIZE_DEFAULT_MIB = 256

interface Parsed {
  readonly rounds: number
  readonly seconds: number
  readonly size: number
  readonly jobs?: RegExp
  readonly json?: string
  readonly plot?: string
  readonly check?: boolean
}

/** Prints help or a complaint and exits when the arguments say or need so. */
export function parseOptions(args: readonly string[]): BenchOptions {
  const command = new Command('npm run bench --')
    .description('Compare nbd-remap with nbdkit and qemu-nbd.')
    .option('--rounds <n>', 'how often the servers take turns', parseCount(1), ROUNDS_DEFAULT)
    .option('--seconds <seconds>', 'of each run of fio', parseSeconds, SECONDS_DEFAULT)
    .option('--size <MiB>', 'of the images', parseCount(1), SIZE_DEFAULT_MIB)
    .option('--jobs <regex>', 'only jobs whose name matches', parseRegex)
    .option('--json <file>', `write the results there; - prints them instead of the table (default: ${JSON_DEFAULT})`)
    .option('--plot <file>', `write the bar chart there (default: ${PLOT_DEFAULT})`)
    .option('--check', 'exit with 1 when a goal is missed')
    .addHelpText(
      'after',
      `
With --jobs nothing is written unless asked for. Exit code 0: every job ran to its end, or said what this machine lacks for it.

Example:
  npm run bench -- --jobs randread --rounds 5`,
    )
  const { size, jobs, json, plot, check, ...rest } = command.parse(args, { from: 'user' }).opts<Parsed>()
  const isWhole = jobs === undefined
  return {
    ...rest,
    size: size * MiB,
    jobs,
    json: json ?? (isWhole ? JSON_DEFAULT : undefined),
    plot: plot ?? (isWhole ? PLOT_DEFAULT : undefined),
    check: check ?? false,
  }
}

function parseRegex(text: string): RegExp {
  try {
    return new RegExp(text)
  } catch {
    throw new InvalidArgumentError('It must be a regular expression.')
  }
}
