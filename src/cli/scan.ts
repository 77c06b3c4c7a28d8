/** `nbd-remap scan`: which disks belong together, in which state, and how to start them. Changes nothing. */
import { Command } from 'commander'
import type { ScannedPair, ScannedSpare, ScanReport } from '../remap/scan.js'
import { fileProblem } from '../util/errors.js'
import { formatBytes } from '../util/units.js'
import { EXIT } from './exit.js'
import { DISK_HELP, jsonOption, parseSeconds } from './options.js'
import { ProgressLine } from './progress-line.js'

interface ScanOptions {
  readonly timeout: number
  readonly json?: boolean
}

export const scanCommand = (): Command =>
  new Command('scan')
    .description(
      'Find out which disks belong together, and how to start them. Changes nothing, and disks may be in use.',
    )
    .argument('<path...>', `a folder, of which all files and block devices are looked at, or ${DISK_HELP}`)
    .option('--timeout <seconds>', 'skip a disk that does not answer for so long', parseSeconds, 5)
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Exit codes: 0 there are pairs, and all of them can be started or are in use; 1 there are none, something is wrong with one,
or a path that was given cannot be looked at.

Example:
  nbd-remap scan /dev /srv/images nbd://storage/main`,
    )
    .action(scan)

async function scan(paths: readonly string[], { timeout, json }: ScanOptions): Promise<void> {
  const [{ look, placesAt }, { report }] = await Promise.all([import('../remap/look.js'), import('../remap/scan.js')])
  const seen = []
  const progress = new ProgressLine()
  for (const path of paths) {
    let places: string[]
    try {
      places = placesAt(path)
    } catch (error) {
      seen.push({ kind: 'skipped' as const, location: path, reason: unfound(error) })
      continue
    }
    for (const place of places) {
      progress.show(`looking at ${place}`)
      seen.push(await look(place, timeout * 1000))
    }
  }
  progress.end()
  const found = report(seen)
  process.stdout.write(
    json ? `${JSON.stringify({ ...found, pairs: found.pairs.map(asJson) }, null, 2)}\n` : describe(found),
  )
  process.exitCode = isInOrder(found, paths) ? EXIT.done : EXIT.failed
}

const unfound = (error: unknown): string =>
  (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file, folder or device' : fileProblem(error)

const isInOrder = ({ pairs, damaged, skipped }: ScanReport, given: readonly string[]): boolean =>
  pairs.length > 0 &&
  pairs.every(({ problems }) => problems.length === 0) &&
  damaged.length === 0 &&
  !skipped.some(({ location }) => given.includes(location))

const asJson = ({ command, main, ...pair }: ScannedPair) => ({
  ...pair,
  main: main ?? null,
  command: command === undefined ? null : command.map(quoted).join(' '),
})

/** As a shell takes it for one word. */
export const quoted = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`

function describe(found: ScanReport): string {
  const { pairs, damaged, others, skipped } = found
  const blocks = [
    ...pairs.map(describePair),
    ...damaged.map(({ location, reason }) => `damaged: ${location}\n  it was a spare: ${reason}\n`),
    ...(others.length > 0 ? [`neither a spare nor the main of one:\n${lines(others)}`] : []),
    ...(skipped.length > 0
      ? [`skipped:\n${lines(skipped.map(({ location, reason }) => `${location}: ${reason}`))}`]
      : []),
  ]
  return pairs.length === 0 ? ['no spare was found\n', ...blocks].join('\n') : blocks.join('\n')
}

const lines = (texts: readonly string[]): string => texts.map((text) => `  ${text}\n`).join('')

const STATES: Readonly<Record<ScannedPair['state'], string>> = {
  clean: 'stopped in good order',
  'in-use': 'in use by a running server',
  'not-clean':
    'no clean stop since the last change: its server died, or runs where it cannot be seen from here, or it was imported and not started yet',
  wrong: 'cannot be started',
}

function describePair({ state, main, spares, problems, mainSize, lastMain, command }: ScannedPair): string {
  const found = main && `${main.location} (${main.by === 'recognised' ? 'the disk it was' : 'by its content'})`
  return lines([
    `main:    ${found ?? `not found, last seen at ${lastMain}`}, ${formatBytes(mainSize)}`,
    ...spares.flatMap(describeSpare),
    ...problems.map((problem) => `WRONG:   ${problem}`),
    ...(command === undefined ? [] : [`start:   ${command.map(quoted).join(' ')}`]),
  ]).replace(/^/, `pair: ${STATES[state]}\n`)
}

const STANDINGS: Readonly<Record<ScannedSpare['standing'], string>> = {
  member: '',
  duplicate: 'a second copy of a spare: leave it out, ',
  stale: 'a copy of an earlier time: leave it out, ',
  removed: 'removed from the pool, ',
  joining: 'its addition to the pool was cut off, ',
}

function describeSpare({ location, standing, blocks, problems }: ScannedSpare): string[] {
  const { remapped, total, retired, lost } = blocks
  const counts = `${remapped} of ${total} blocks remapped (${lost} with lost sectors), ${retired} retired`
  const rest = problems.length > 0 ? [`         ${problems.length} damaged copies, which the next start repairs`] : []
  return [`spare:   ${location}, ${STANDINGS[standing]}${counts}`, ...rest]
}
