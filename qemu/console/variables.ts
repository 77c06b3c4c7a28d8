/** Variables of a session: JSON values by name. `$_` is what the last command returned. */
import { isObject } from '../../src/qmp/message.js'
import { UsageError } from '../../src/util/errors.js'
import type { Piece, Value, VariablePath } from './words.js'

export const LAST = '_'

export class Variables {
  readonly #values = new Map<string, unknown>()

  get names(): string[] {
    return [...this.#values.keys()]
  }

  entries(): [string, unknown][] {
    return [...this.#values]
  }

  set(name: string, value: unknown): void {
    this.#values.set(name, value)
  }

  /** @returns whether there was one */
  delete(name: string): boolean {
    return this.#values.delete(name)
  }

  /** @throws UsageError that says which step of the path leads nowhere, and what there is instead */
  get([name, ...path]: VariablePath): unknown {
    if (!this.#values.has(name)) {
      throw new UsageError(
        name === LAST ? 'there is no $_ yet: no command has returned anything' : `there is no variable $${name}`,
      )
    }
    let value = this.#values.get(name)
    let where = `$${name}`
    for (const step of path) {
      value = stepInto(value, step, where)
      where += /^\d+$/.test(step) ? `[${step}]` : `.${step}`
    }
    return value
  }

  /** What can follow `$name.path.`; nothing when the path leads nowhere. */
  membersOf(path: VariablePath): string[] {
    try {
      const value = this.get(path)
      return Array.isArray(value) ? [...value.keys()].map(String) : isObject(value) ? Object.keys(value) : []
    } catch {
      return []
    }
  }

  /** A value that is text, as text. */
  expandText(pieces: readonly Piece[]): string {
    return pieces.map((piece) => (piece.kind === 'text' ? piece.text : asText(this.get(piece.path)))).join('')
  }

  /**
   * What the value is when nothing says of which type it should be.
   * @throws UsageError for JSON that is none, and for variables that do not exist
   */
  evaluate({ kind, pieces, ...value }: Value): unknown {
    if (kind === 'json') return this.parseJson(pieces)
    const [first] = pieces
    const quoted = 'quoted' in value && value.quoted
    if (pieces.length === 1 && first?.kind === 'variable' && !quoted) return this.get(first.path)
    const text = this.expandText(pieces)
    return quoted ? text : guess(text)
  }

  /** @throws UsageError that shows where the JSON is wrong */
  parseJson(pieces: readonly Piece[]): unknown {
    const text = pieces
      .map((piece) => (piece.kind === 'text' ? piece.text : JSON.stringify(this.get(piece.path))))
      .join('')
    try {
      return JSON.parse(text) as unknown
    } catch (error) {
      throw new UsageError(`this is not JSON: ${text} (${error instanceof Error ? error.message : String(error)})`)
    }
  }
}

/** Numbers, true, false and null are what they look like; everything else is a string. */
export function guess(text: string): unknown {
  if (/^(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)$/.test(text)) {
    const value = JSON.parse(text) as unknown
    return typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value) ? text : value
  }
  return text
}

const asText = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))

function stepInto(value: unknown, step: string, where: string): unknown {
  if (Array.isArray(value)) {
    const index = Number(step)
    if (Number.isInteger(index) && index < value.length) return value[index]
    throw new UsageError(`${where} has no [${step}]: it is a list of ${value.length}`)
  }
  if (!isObject(value)) throw new UsageError(`${where} has no '${step}': it is ${JSON.stringify(value)}`)
  if (Object.hasOwn(value, step)) return value[step]
  throw new UsageError(`${where} has no '${step}', but: ${Object.keys(value).join(', ')}`)
}
