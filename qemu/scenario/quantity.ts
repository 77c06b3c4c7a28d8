/** Sizes and durations as people write them, regular expressions, and sector ranges. */
import { kindOf, leaf, matching, type Shape } from './shape.js'

const SIZE = /^(\d+)([KMGT]?)$/
const SIZE_UNITS = ['', 'K', 'M', 'G', 'T']

/** Bytes: `128M`, `64K`, `4096`. */
export const size: Shape<number, number | string> = leaf(
  'a size such as 128M or 64K',
  { type: ['string', 'integer'], pattern: SIZE.source },
  (value) => {
    const [, digits, unit = ''] = SIZE.exec(String(value)) ?? []
    const bytes = digits === undefined ? NaN : Number(digits) * 1024 ** SIZE_UNITS.indexOf(unit)
    return Number.isSafeInteger(bytes) ? bytes : undefined
  },
)

const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/
const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }
/** What setTimeout can wait for. */
const DURATION_MAX_MS = 2 ** 31 - 1

/** Milliseconds: `500ms`, `2s`, `1.5m`; in TypeScript also a number of milliseconds. */
export const duration: Shape<number, number | string> = {
  schema: { type: 'string', pattern: DURATION.source },
  read: (value, at) => {
    if (typeof value === 'number' && !at.kebab && value >= 0) return value
    const [, digits, unit = ''] = DURATION.exec(typeof value === 'string' ? value : '') ?? []
    if (digits === undefined) return at.fail(`must be a duration such as 500ms, 2s or 1m, not ${kindOf(value)}`)
    const milliseconds = Number(digits) * (MILLISECONDS[unit] ?? NaN)
    return milliseconds <= DURATION_MAX_MS ? milliseconds : at.fail('must be 24 days at most')
  },
}

/** A regular expression, which a text has to contain; `/.../i` ignores case. */
export const pattern: Shape<RegExp, string | RegExp> = {
  schema: { type: 'string', format: 'regex' },
  read: (value, at) => {
    if (value instanceof RegExp) return value
    if (typeof value !== 'string') return at.fail(`must be a regular expression, not ${kindOf(value)}`)
    const [, source = value, flags = 'm'] = /^\/(.*)\/([imsu]*)$/s.exec(value) ?? []
    try {
      return new RegExp(source, flags)
    } catch (error) {
      return at.fail(error instanceof Error ? error.message : String(error))
    }
  },
}

export const NAME = {
  wanted: 'a lower-case letter, then up to 15 letters, digits and dashes',
  pattern: /^[a-z][a-z0-9-]{0,15}$/,
}

/** Of a disk, a server, a machine, a workload. */
export const name: Shape<string> = matching(`a name (${NAME.wanted})`, NAME.pattern)

export interface SectorRange {
  readonly first: number
  readonly last: number
}

const RANGE = /^(\d+)(?:-(\d+))?$/

/** Sectors of 512 bytes: `2048` or `2048-2055`. */
export const sectorRange: Shape<SectorRange, number | string | SectorRange> = leaf(
  'a sector or a range of sectors such as 2048-2055',
  { type: ['string', 'integer'], pattern: RANGE.source },
  (value) => {
    if (typeof value === 'object' && value !== null && 'first' in value && 'last' in value) return value as SectorRange
    const [, from, to = from] = RANGE.exec(String(value)) ?? []
    const range = { first: Number(from), last: Number(to) }
    return from !== undefined && range.first <= range.last && Number.isSafeInteger(range.last) ? range : undefined
  },
)
