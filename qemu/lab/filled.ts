/** Texts in which `{{NAME.KEY}}` stands for something of the run. */
import { LabError } from './error.js'

/**
 * The value with everything put in; in the texts of lists and mappings, too.
 * @param meaning what a key stands for, if for anything
 * @throws LabError for an unknown one
 */
export function filled<T>(value: T, meaning: (key: string) => string | undefined): T {
  if (typeof value === 'string')
    return value.replaceAll(/\{\{\s*([\w.-]+)\s*\}\}/g, (_, key: string) => meaning(key) ?? refuse(key)) as T
  if (Array.isArray(value)) return value.map((item: unknown) => filled(item, meaning)) as T
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, filled(item as unknown, meaning)])) as T
}

function refuse(key: string): never {
  const [name = '', what] = key.split('.')
  const why = what === undefined ? '' : `: there is no ${what} of '${name}'`
  throw new LabError(`'{{${key}}}' stands for nothing${why}`)
}
