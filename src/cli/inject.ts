/** `nbd-remap inject`: makes the disks of a running server fail, as told on the command line or by a file. */
import { Command, InvalidArgumentError, Option } from 'commander'
import type { FaultLogReply, FaultsReply, InjectedRuleReply } from '../control/fault-commands.js'
import { EFFECTS, FAULT_DISKS, FAULT_EFFECTS, FAULT_MEMBERS, FAULT_OPERATIONS } from '../faults/vocabulary.js'
import type { FaultMember, FaultRule } from '../faults/vocabulary.js'
import { fileProblem, messageOf, UsageError } from '../util/errors.js'
import { ask } from './ask.js'
import { controlOption, jsonOption, parseCount } from './options.js'

/** Members of a rule that are options, each with the placeholder of its value. */
const MEMBER_OPTIONS = {
  id: '<name>',
  disk: '<disk>',
  index: '<n>',
  sector: '<sector>',
  count: '<n>',
  sectors: '<list>',
  'random-sectors': '<n>',
  percent: '<percent>',
  clusters: '<n>',
  'cluster-sectors': '<n>',
  within: '<first-last>',
  'map-file': '<path>',
  'map-format': '<format>',
  'map-unit': '<bytes>',
  'map-statuses': '<characters>',
  operations: '<list>',
  effect: '<effect>',
  after: '<n>',
  times: '<n>',
  probability: '<p>',
  'heals-on-write': '',
  seed: '<seed>',
  errno: '<name>',
  'delay-ms': '<ms>',
  'delay-max-ms': '<ms>',
  distribution: '<name>',
  shape: '<alpha>',
  'duration-ms': '<ms>',
  corruption: '<kind>',
  bits: '<n>',
  tearing: '<kind>',
  acknowledge: '',
  'kept-percent': '<percent>',
  connection: '<which>',
  'slow-after': '<n>',
  'weak-after': '<n>',
  'bad-after': '<n>',
} as const satisfies Partial<Record<FaultMember, string>>

type MemberOption = keyof typeof MEMBER_OPTIONS

const LOG_ENTRIES_DEFAULT = 1000

interface InjectOptions {
  readonly control: string
  readonly json?: boolean
  readonly from?: string
  readonly clear?: string | true
  readonly list?: boolean
  readonly log?: boolean
  readonly since?: number
}

export function injectCommand(): Command {
  const command = new Command('inject')
    .description('Make the disks of a running server fail, for tests; see what failed by which rule.')
    .addOption(controlOption())
    .addOption(jsonOption())
    .option(
      '--from <file>',
      'take the rules from a file (JSON or YAML), or the bad sectors from a badblocks or ddrescue map',
    )
    .addOption(new Option('--clear [id]', 'take this rule out, or all').conflicts(['from', 'list', 'log']))
    .addOption(new Option('--list', 'show the rules and what they have done').conflicts(['from', 'log']))
    .addOption(new Option('--log', 'show what was done to which request').conflicts(['from']))
    .option('--since <number>', 'with --log: entries with higher numbers only', parseCount(0))
  for (const [name, value] of Object.entries(MEMBER_OPTIONS))
    command.addOption(memberOption(name as MemberOption, value))
  return command
    .addHelpText(
      'after',
      `
The options from --id on are the members of one rule; docs/FAULTS.md tells them all, and what a file of rules looks like. Without
a place the whole disk is meant, without an operation those that go with the effect, and without an effect requests fail with EIO.
Operations are ${FAULT_OPERATIONS.join(', ')}, several with commas; disks are ${FAULT_DISKS.join(', ')}.

The server has to be started with serve --fault-injection, --faults or --fault-seed.

Effects: ${FAULT_EFFECTS.map((effect) => `${effect}, ${EFFECTS[effect].description}`).join('. ')}.

Example:
  nbd-remap inject --control /run/disk.qmp --sectors 2048-2055,4096 --operations write --heals-on-write
  nbd-remap inject --control /run/disk.qmp --percent 0.1 --cluster-sectors 64 --operations read
  nbd-remap inject --control /run/disk.qmp --disk spare-metadata --probability 0.01 --times 3
  nbd-remap inject --control /run/disk.qmp --effect delay --distribution pareto --delay-ms 2 --delay-max-ms 500
  nbd-remap inject --control /run/disk.qmp --from bad.map
  nbd-remap inject --control /run/disk.qmp --list
  nbd-remap inject --control /run/disk.qmp --log --since 100
  nbd-remap inject --control /run/disk.qmp --clear fault-1`,
    )
    .action(inject)
}

function memberOption(name: MemberOption, value: string): Option {
  const { kind, description } = FAULT_MEMBERS[name]
  const option = new Option(`--${name}${value === '' ? '' : ` ${value}`}`, description.replaceAll('`', ''))
  if (value === '') return option
  if (kind === 'int' || kind === 'size' || kind === 'number') return option.argParser(parseNumber)
  if (kind === 'array') return option.argParser((text: string) => text.split(','))
  return kind === 'enum' ? option.choices([...FAULT_MEMBERS[name].values]) : option
}

function parseNumber(text: string): number {
  const number = Number(text)
  if (text.trim() === '' || !Number.isFinite(number)) throw new InvalidArgumentError('It must be a number.')
  return number
}

async function inject(options: InjectOptions, command: Command): Promise<void> {
  const { control } = options
  const rule = ruleOf(command)
  const isAsking = options.clear !== undefined || options.list === true || options.log === true
  if (isAsking && Object.keys(rule).length > 0)
    throw new UsageError(`--${Object.keys(rule)[0] ?? ''} is of a rule, and does not go with --clear, --list or --log`)
  if (options.since !== undefined && !options.log) throw new UsageError('--since goes with --log')
  if (options.clear !== undefined) await clear(control, options)
  else if (options.list) show(options, await ask<FaultsReply>(control, 'query-faults'), describeRules)
  else if (options.log) await showLog(control, options)
  else await add(control, options, rule)
}

/** What the command line says of a rule, by the names of its members. */
function ruleOf(command: Command): FaultRule {
  const given = command.options.filter((option) => command.getOptionValueSource(option.attributeName()) === 'cli')
  const members = given.flatMap((option) => {
    const name = option.long?.slice(2) ?? ''
    return Object.hasOwn(MEMBER_OPTIONS, name)
      ? [[name, command.getOptionValue(option.attributeName()) as unknown]]
      : []
  })
  return Object.fromEntries(members) as FaultRule
}

async function add(control: string, options: InjectOptions, rule: FaultRule): Promise<void> {
  const { FaultRuleError, parseFaultRule } = await import('../faults/parse.js')
  try {
    const rules = await rulesOf(options, parseFaultRule(rule, 'the rule'))
    show(options, await ask<FaultsReply>(control, 'inject-error', { rules }), describeRules)
  } catch (error) {
    if (error instanceof FaultRuleError) throw new UsageError(error.message, { cause: error })
    throw error
  }
}

/** A file of rules stands alone; a map is the place of the rule on the command line. */
async function rulesOf({ from }: InjectOptions, rule: FaultRule): Promise<readonly FaultRule[]> {
  if (from === undefined) {
    if (Object.keys(rule).length === 0)
      throw new UsageError('say what is to fail; --effect error alone fails all of the main disk')
    return withMap('--map-file', rule)
  }
  if (!(await holdsRules(from))) return withMap('--from', { ...rule, 'map-file': from })
  if (Object.keys(rule).length > 0) throw new UsageError(`${from} holds rules, so there can be no other one beside it`)
  const { readFaultFile } = await import('../faults/fault-file.js')
  return (await given('--from', readFaultFile(from))).rules
}

/** A file that is not what it should be is wrong usage. @throws UsageError that names the option */
async function given<T>(option: string, reading: Promise<T>): Promise<T> {
  try {
    return await reading
  } catch (error) {
    throw new UsageError(`${option} ${messageOf(error)}`, { cause: error })
  }
}

/** JSON begins with a bracket, and no line of a map does. */
async function holdsRules(path: string): Promise<boolean> {
  const [{ readFile }, { isYaml }] = await Promise.all([import('node:fs/promises'), import('../faults/fault-file.js')])
  if (isYaml(path)) return true
  try {
    return /^\s*[[{]/.test(await readFile(path, 'utf8'))
  } catch (error) {
    throw new UsageError(`--from ${path}: ${fileProblem(error)}`, { cause: error })
  }
}

/** The server reads the map itself: it may be longer than a message. */
async function withMap(option: string, rule: FaultRule): Promise<readonly FaultRule[]> {
  const path = rule['map-file']
  if (path === undefined) return [rule]
  const [paths, { checkMap }] = await Promise.all([import('node:path'), import('../faults/fault-file.js')])
  await given(option, checkMap(path, rule))
  return [{ ...rule, 'map-file': paths.resolve(path) }]
}

async function clear(control: string, options: InjectOptions): Promise<void> {
  const ids = typeof options.clear === 'string' ? { ids: [options.clear] } : {}
  const answer = await ask<{ readonly cleared: readonly string[] }>(control, 'clear-errors', ids)
  show(options, answer, ({ cleared }) =>
    cleared.length === 0 ? 'there was no rule\n' : `cleared ${cleared.join(', ')}\n`,
  )
}

async function showLog(control: string, options: InjectOptions): Promise<void> {
  const limit = LOG_ENTRIES_DEFAULT
  const reply = await ask<FaultLogReply>(control, 'query-fault-log', { since: options.since ?? 0, limit })
  show(options, reply, describeLog)
}

function show<T>(options: InjectOptions, answer: T, describe: (answer: T) => string): void {
  process.stdout.write(options.json ? `${JSON.stringify(answer)}\n` : describe(answer))
}

const describeRules = ({ seed, rules }: FaultsReply): string =>
  rules.length === 0 ? `no rules; seed ${seed}\n` : rules.map(describeRule).join('')

const PLACES_SHOWN = 8

function describeRule({ id, effect, state, parts }: InjectedRuleReply): string {
  const lines = parts.map(({ disk, name, sectors, places, requests, struck }) => {
    const more = places.length > PLACES_SHOWN ? ', ...' : ''
    const where = places.slice(0, PLACES_SHOWN).join(', ') + more
    return `  ${disk} ${name}: ${sectors} sectors (${where}); struck ${struck} of ${requests} requests\n`
  })
  return `${id}: ${effect}, ${state}\n${lines.join('')}`
}

function describeLog({ entries, first, last }: FaultLogReply): string {
  if (last === 0) return 'nothing was struck yet\n'
  const lines = entries.map((entry) => {
    const { number, time, rule, disk, operation, offset, length, effect, error, detail } = entry
    const what = [effect, error, detail, delayText(entry['delay-ms'])].filter((part) => part !== undefined).join(' ')
    return `${number}  ${time}  ${rule}  ${disk} ${operation} ${offset}+${length}: ${what}\n`
  })
  const lost = first > 1 ? [`(entries before ${first} are gone)\n`] : []
  const rest = (entries.at(-1)?.number ?? last) < last ? [`(there are more, up to ${last}: see --since)\n`] : []
  return [...lost, ...lines, ...rest].join('')
}

const delayText = (ms: number | undefined): string | undefined => (ms === undefined ? undefined : `${ms} ms`)
