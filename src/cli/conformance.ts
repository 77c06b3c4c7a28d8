/** `nbd-remap conformance`: what the NBD specification demands, put to any server. The checks stand in src/conformance. */
import { Argument, Command, InvalidArgumentError, Option } from 'commander'
import type { Check } from '../conformance/check.js'
import type { Report } from '../conformance/examine.js'
import { LEVELS, tally, type Finding } from '../conformance/finding.js'
import { clientTlsOptions } from '../nbd/client-tls.js'
import { NbdUriError, parseNbdUri, type NbdUri } from '../nbd/uri.js'
import { UsageError } from '../util/errors.js'
import { EXIT } from './exit.js'
import { jsonOption, parseSeconds } from './options.js'
import { ProgressLine } from './progress-line.js'

interface ConformanceOptions {
  readonly write?: boolean
  readonly check?: readonly string[]
  readonly timeout: number
  readonly verbose?: boolean
  readonly tap?: boolean
  readonly json?: boolean
}

export const conformanceCommand = (): Command =>
  new Command('conformance')
    .description('Check an NBD server, of whatever make, against what the specification says it MUST and SHOULD do.')
    .addArgument(new Argument('<uri>', 'NBD URI of an export').argParser(parseUri))
    .option('--write', 'also check what changes the export: ITS CONTENT IS DESTROYED')
    .addOption(
      new Option('--check <name>', 'only this check; may be repeated').argParser(
        (name: string, previous: readonly string[] | undefined) => [...(previous ?? []), name],
      ),
    )
    .option('--timeout <seconds>', 'how long the server may take to answer anything', parseSeconds, 10)
    .option('--verbose', 'what was met as well')
    .addOption(new Option('--tap', 'print TAP, for test runners').conflicts('json'))
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Send it to a server that may be lost: some are brought down by what clients are allowed to do, and then that is the last finding.
Every connection is made anew, and nothing is written without --write.
Exit codes: 0 every MUST is met, 1 one is not, or nobody listens.

Example:
  nbd-remap conformance 'nbd+unix:///?socket=/run/disk.sock'
  truncate -s 64M scratch.img
  qemu-nbd -r -t -k /tmp/nbd.sock -f raw scratch.img &
  nbd-remap conformance --tap 'nbd+unix:///?socket=/tmp/nbd.sock'`,
    )
    .action(conformance)

function parseUri(text: string): NbdUri {
  try {
    return parseNbdUri(text)
  } catch (error) {
    if (error instanceof NbdUriError) throw new InvalidArgumentError(error.message)
    throw error
  }
}

async function conformance(uri: NbdUri, options: ConformanceOptions): Promise<void> {
  const { CHECKS, examine } = await import('../conformance/examine.js')
  const target = {
    address: uri.address,
    exportName: uri.exportName,
    patienceMs: options.timeout * 1000,
    mayWrite: options.write === true,
    ...(uri.tls ? { tls: clientTlsOptions(uri) } : {}),
  }
  const line = new ProgressLine()
  const report = await examine(target, {
    checks: chosen(CHECKS, options.check),
    onCheck: ({ name }, done, of) => {
      line.show(`check ${done + 1} of ${of}: ${name}`)
    },
  }).catch(withAdvice)
  line.end()
  process.stdout.write(options.json ? toJson(report) : options.tap ? toTap(report) : toText(report, options))
  if (tally(report.findings, 'MUST').fail > 0) process.exitCode = EXIT.failed
}

/** @throws UsageError for a name that no check has */
/** @throws Error */
async function withAdvice(error: unknown): Promise<never> {
  const { NobodyListensError } = await import('../conformance/raw-client.js')
  if (!(error instanceof NobodyListensError)) throw error
  const advice =
    'start the server first, or give the URI of one that runs: nbd+unix:///EXPORT?socket=PATH, nbd://HOST:PORT/EXPORT'
  throw new Error(`${error.message}; ${advice}`, { cause: error })
}

function chosen(checks: readonly Check[], names: readonly string[] | undefined): readonly Check[] {
  if (names === undefined) return checks
  const unknown = names.find((name) => !checks.some((check) => check.name === name))
  if (unknown !== undefined) {
    throw new UsageError(`there is no check '${unknown}': there are ${checks.map(({ name }) => name).join(', ')}`)
  }
  return checks.filter(({ name }) => names.includes(name))
}

const toJson = ({ facts, findings, fell }: Report): string => {
  const tallies = Object.fromEntries(LEVELS.map((level) => [level, tally(findings, level)]))
  return `${JSON.stringify({ facts, tallies, findings, ...(fell === undefined ? {} : { fell }) })}\n`
}

function toText({ facts, findings, fell }: Report, { verbose }: ConformanceOptions): string {
  const shown = findings.filter(({ result }) => verbose === true || result === 'fail')
  const skipped = [...new Set(findings.filter(({ result }) => result === 'skip').map(skipLine))]
  const contexts = facts.contexts.length === 0 ? 'none' : facts.contexts.join(', ')
  const lines = [
    `export of ${facts.size} bytes, structured replies: ${facts.structured ? 'yes' : 'no'}, contexts: ${contexts}`,
    ...shown.map(findingLine),
    ...skipped,
    ...LEVELS.map((level) => {
      const { pass, fail } = tally(findings, level)
      return `${level.padEnd(6)} ${pass} met, ${fail} not met`
    }),
  ]
  if (fell !== undefined) lines.push(`the server fell over in the check '${fell}': what comes after it was not tried`)
  return `${lines.join('\n')}\n`
}

const findingLine = ({ check, level, demand, result, detail }: Finding): string =>
  `${result === 'fail' ? 'NOT MET' : result === 'pass' ? 'met' : 'skipped'}: ${check}: ${level} ${demand}${detail === undefined ? '' : `; but: ${oneLine(detail)}`}`

const skipLine = ({ check, detail = '' }: Finding): string => `skipped: ${check}: ${detail}`

function toTap({ findings, fell }: Report): string {
  const lines = findings.map(({ check, level, demand, result, detail }, n) => {
    const skip = result === 'skip' ? ` # SKIP ${oneLine(detail ?? '')}` : ''
    const why = result === 'fail' && detail !== undefined ? `\n  ---\n  but: ${JSON.stringify(detail)}\n  ...` : ''
    // A demand that is not a MUST may fail: TAP has TODO for what does not fail a run.
    const todo = result === 'fail' && level !== 'MUST' ? ` # TODO ${level} only` : ''
    return `${result === 'fail' ? 'not ok' : 'ok'} ${n + 1} - ${check}: ${level} ${escapeTap(demand)}${skip}${todo}${why}`
  })
  const end = fell === undefined ? `1..${findings.length}` : `Bail out! The server fell over in the check ${fell}`
  return `TAP version 14\n${lines.join('\n')}\n${end}\n`
}

const escapeTap = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('#', '\\#')
const oneLine = (text: string): string => text.replaceAll(/[\p{Cc}]+/gu, ' ')
