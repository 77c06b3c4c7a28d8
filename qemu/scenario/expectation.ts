/** Whether a value is as expected: pure, and told in words when it is not. */
import { isDeepStrictEqual } from 'node:util'
import type { Expectations, Matcher } from './format-observe.js'

const SHOWN_MAX = 200

/** What is not as expected, one sentence for each path; none when all is. */
export function mismatches(expectations: Expectations, value: unknown): string[] {
  return Object.entries(expectations).flatMap(([path, matcher]) => {
    const found = valueAt(value, path)
    const wrong = mismatch(matcher, found)
    return wrong === undefined ? [] : [`${path === '.' ? 'it' : path} should be ${wrong}, and is ${shown(found)}`]
  })
}

/** `clients.0.name`; `length` of lists and texts; `.` is the whole. */
export function valueAt(value: unknown, path: string): unknown {
  if (path === '.') return value
  let at: unknown = value
  for (const key of path.split('.')) {
    if (at === null || at === undefined) return undefined
    at = (at as Record<string, unknown>)[key]
  }
  return at
}

/** What should be, if it is not. */
function mismatch({ equals, not, atLeast, atMost, matches, contains }: Matcher, found: unknown): string | undefined {
  if (equals !== undefined && !isDeepStrictEqual(found, equals)) return shown(equals)
  if (not !== undefined && isDeepStrictEqual(found, not)) return `anything but ${shown(not)}`
  if (atLeast !== undefined && !(typeof found === 'number' && found >= atLeast)) return `at least ${atLeast}`
  if (atMost !== undefined && !(typeof found === 'number' && found <= atMost)) return `at most ${atMost}`
  if (matches !== undefined && !matches.test(textOf(found))) return `something that matches ${String(matches)}`
  if (contains !== undefined && !holds(found, contains)) return `something that contains ${shown(contains)}`
  return undefined
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : shown(value))

function holds(found: unknown, part: unknown): boolean {
  if (Array.isArray(found)) return found.some((entry) => isDeepStrictEqual(entry, part))
  return typeof found === 'string' && found.includes(String(part))
}

/** A value in a message. */
export function shown(value: unknown): string {
  const text = value === undefined ? 'not there' : JSON.stringify(value)
  return text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}...` : text
}
