/** `nbd-remap plan`: how large a spare has to be. It needs no disks; the arithmetic stands in plan/. */
import { Command, InvalidArgumentError } from 'commander'
import { UsageError } from '../util/errors.js'
import { formatBytes } from '../util/units.js'
import { EXIT } from './exit.js'
import { BLOCK_SIZE_HELP, jsonOption, parseBlockSize, parseBytes, parsePercent } from './options.js'
import type { Plan } from './plan/capacity.js'
import { badBlocksAfter, DAYS, type Expectation } from './plan/forecast.js'

interface PlanOptions {
  readonly mainSize: number
  readonly expect: Pick<Expectation, 'atOnce' | 'perDay'>
  readonly growth: number
  readonly for?: number
  readonly reserve: number
  readonly spareSize?: number
  readonly blockSize?: number
  readonly json?: boolean
}

const BLOCK_SIZE_DEFAULT = 4096

export const planCommand = (): Command =>
  new Command('plan')
    .description('Say how large a spare has to be for what is expected of a disk, and how long it lasts.')
    .requiredOption('--main-size <bytes>', 'size of the main disk, with K, M, G or T', parseBytes)
    .requiredOption(
      '--expect <blocks>',
      'bad blocks: so many at once (2000), or by the hour, day, week, month or year (20/day); may be repeated, and adds up',
      parseExpectation,
    )
    .option('--growth <percent>', 'by how much the rate grows each month; may be negative', parseGrowth, 0)
    .option('--for <time>', 'how long the spare should last, such as 90d, 18m or 5y (default: 3y)', parseTime)
    .option('--reserve <percent>', 'of the spare to be left then: spares have bad blocks, too', parsePercent, 20)
    .option('--spare-size <bytes>', 'judge a spare of this size instead of recommending one', parseBytes)
    .option('--block-size <bytes>', BLOCK_SIZE_HELP, parseBlockSize)
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Sizes are in powers of 1024. Memory is that of the remap table when the whole spare is used.
Exit codes: 0 done, 1 the spare of --spare-size does not suffice.

Example:
  nbd-remap plan --main-size 1T --expect 500 --expect 20/day --growth 5 --for 5y
  nbd-remap plan --main-size 1T --expect 20/day --spare-size 1G`,
    )
    .action(plan)

async function plan(options: PlanOptions): Promise<void> {
  const { planSpare } = await import('./plan/capacity.js')
  const { mainSize, spareSize, blockSize = BLOCK_SIZE_DEFAULT, json, for: days = 3 * DAYS.year } = options
  if (mainSize === 0) throw new UsageError('--main-size must be more than 0')
  if (options.reserve >= 100) throw new UsageError('--reserve must be less than 100')
  const expectation = { ...options.expect, growthPerMonth: options.growth / 100 }
  const answer = planSpare({ mainSize, blockSize, spareSize, days, expectation, reserve: options.reserve / 100 })
  process.stdout.write(json ? `${JSON.stringify(answer)}\n` : describe(answer, expectation, days, options))
  if (!answer.sufficient) process.exitCode = EXIT.failed
}

function describe(answer: Plan, expectation: Expectation, days: number, { reserve, spareSize }: PlanOptions): string {
  const verdict = answer.sufficient ? '' : `; TOO SMALL: ${answer['needed-blocks']} are needed`
  const spare = spareSize === undefined ? `at least ${formatBytes(answer['spare-bytes'])}` : formatBytes(spareSize)
  const capped = badBlocksAfter(expectation, days) > answer['main-blocks'] ? ', which is all of the disk' : ''
  return `main:      ${formatBytes(answer['main-bytes'])}, ${answer['main-blocks']} blocks of ${formatBytes(answer['block-size'])}
expected:  ${answer['expected-blocks']} bad blocks after ${formatDays(days)}${capped}
spare:     ${spare}: ${answer['spare-blocks']} blocks; ${answer['needed-blocks']} with ${reserve} % in reserve${verdict}
metadata:  ${formatBytes(answer['metadata-bytes'])} of it
memory:    ${formatBytes(answer['memory-bytes'])}
lasts:     ${describeLife(answer)}
`
}

function describeLife(answer: Plan): string {
  const { 'lasts-days': full, 'low-after-days': low } = answer
  if (full === undefined) return 'for ever'
  return `${formatDays(full)}${low === undefined ? '' : `; SPARE_LOW is sent after ${formatDays(low)}`}`
}

const formatDays = (days: number): string =>
  days >= 2 * DAYS.year ? `${(days / DAYS.year).toFixed(1)} years` : `${Number(days.toFixed(1))} days`

function parseExpectation(text: string, previous: PlanOptions['expect'] | undefined): PlanOptions['expect'] {
  const [, digits = '', unit] = /^(\d{1,15}(?:\.\d+)?)(?:\/(hour|day|week|month|year))?$/.exec(text) ?? []
  if (digits === '') throw new InvalidArgumentError('It must be a number of blocks, such as 2000, 20/day or 100/month.')
  const { atOnce, perDay } = previous ?? { atOnce: 0, perDay: 0 }
  if (unit === undefined) return { atOnce: atOnce + Number(digits), perDay }
  return { atOnce, perDay: perDay + Number(digits) / DAYS[unit as keyof typeof DAYS] }
}

const GROWTH_MOST = 1000

function parseGrowth(text: string): number {
  const percent = Number(text)
  if (text.trim() === '' || !(percent > -100 && percent <= GROWTH_MOST))
    throw new InvalidArgumentError(`It must be a number of percent above -100 and up to ${GROWTH_MOST}.`)
  return percent
}

const TIMES: Readonly<Record<string, number>> = { d: DAYS.day, w: DAYS.week, m: DAYS.month, y: DAYS.year }

function parseTime(text: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,6}(?:\.\d+)?)([dwmy])$/.exec(text) ?? []
  if (digits === '') throw new InvalidArgumentError('It must be a time such as 90d, 26w, 18m or 5y.')
  return Number(digits) * (TIMES[unit] ?? 1)
}
