/** `--limit NAME=VALUE` of `serve`: the limits of src/server/limits.ts by their names. */
import { InvalidArgumentError, Option } from 'commander'
import { DEFAULT_LIMITS, type Limits } from '../server/limits.js'
import { KiB, MiB } from '../util/units.js'

const NAMES = Object.keys(DEFAULT_LIMITS) as (keyof Limits)[]
/** Those of things that the server can do without. */
const MAY_BE_NONE: ReadonlySet<string> = new Set<keyof Limits>(['pipesMax'])
const UNITS: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ['K', KiB],
  ['M', MiB],
])
/** The longest that a timer of Node.js waits, in milliseconds; more than enough for all that is counted. */
const VALUE_MAX = 2 ** 31 - 1

export const limitOption = (): Option =>
  new Option(
    '--limit <name=value>',
    'change a limit on what clients can do, such as clientsMax=256; may be repeated',
  ).argParser(parseLimit)

/** For the help text. */
export const limitsHelp = (): string =>
  `Limits, and their defaults (bytes may be given as 64K or 32M):\n${NAMES.map((name) => `  ${name}=${DEFAULT_LIMITS[name]}`).join('\n')}`

function parseLimit(text: string, previous: Partial<Limits> = {}): Partial<Limits> {
  const [, name = '', digits = '', unit = ''] = /^(\w+)=(\d{1,10})([KM]?)$/.exec(text) ?? []
  if (name === '') throw new InvalidArgumentError('It must be NAME=VALUE, such as clientsMax=256.')
  if (!isLimit(name)) throw new InvalidArgumentError(`There is no limit ${name}. The limits are ${NAMES.join(', ')}.`)
  const value = Number(digits) * (UNITS.get(unit) ?? 1)
  const least = MAY_BE_NONE.has(name) ? 0 : 1
  if (value < least || value > VALUE_MAX) {
    throw new InvalidArgumentError(`${name} must be a whole number from ${least} to ${VALUE_MAX}.`)
  }
  return { ...previous, [name]: value }
}

const isLimit = (name: string): name is keyof Limits => NAMES.some((known) => known === name)
