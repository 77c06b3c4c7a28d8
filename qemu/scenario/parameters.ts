/** `parameters` of a scenario: values that `--set` changes, put wherever `{{NAME}}` stands. Pure. */
import { kindOf, leaf, type Shape } from './shape.js'

export type ParameterValue = string | number | boolean

export const parameterValue: Shape<ParameterValue> = leaf(
  'a text, a number, true or false',
  { type: ['string', 'number', 'boolean'] },
  (value) => (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? value : undefined),
)

/** What was given on the command line for a name that the scenario does not have. */
export class UnknownParameterError extends Error {
  override name = 'UnknownParameterError'
}

/**
 * The document with its parameters put in; `parameters` itself has the values that hold.
 * @param given in place of the values in the document
 * @throws UnknownParameterError
 */
export function withParameters(document: unknown, given: Readonly<Record<string, ParameterValue>>): unknown {
  const own = parametersOf(document)
  for (const name of Object.keys(given))
    if (!Object.hasOwn(own, name)) {
      const known = Object.keys(own)
      throw new UnknownParameterError(
        `there is no parameter '${name}'; there ${known.length === 0 ? 'are none' : `are ${known.join(', ')}`}`,
      )
    }
  const values = { ...own, ...given }
  if (Object.keys(values).length === 0) return document
  return { ...(putIn(document, values) as object), parameters: values }
}

function parametersOf(document: unknown): Readonly<Record<string, unknown>> {
  if (kindOf(document) !== 'a mapping') return {}
  const { parameters } = document as { parameters?: unknown }
  return kindOf(parameters) === 'a mapping' ? (parameters as Record<string, unknown>) : {}
}

function putIn(value: unknown, values: Readonly<Record<string, unknown>>): unknown {
  if (typeof value === 'string') return putInText(value, values)
  if (Array.isArray(value)) return value.map((item: unknown) => putIn(item, values))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, putIn(item, values)]))
}

/** A text that is nothing else becomes the value itself, so that a number stays one. */
function putInText(text: string, values: Readonly<Record<string, unknown>>): unknown {
  const [, whole = ''] = /^\{\{\s*([\w-]+)\s*\}\}$/.exec(text) ?? []
  if (Object.hasOwn(values, whole)) return values[whole]
  return text.replaceAll(/\{\{\s*([\w-]+)\s*\}\}/g, (found, name: string) =>
    Object.hasOwn(values, name) ? textOf(values[name]) : found,
  )
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))
