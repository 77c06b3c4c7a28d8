/**
 * What values may look like, said once: a `Shape` reads a value, says what is wrong with it and where, has its TypeScript
 * types (what may be written, and what is made of it), and its JSON Schema. All problems of a document are found at once.
 *
 * The surprise: names are camelCase in the table and in TypeScript, and kebab-case in files: `reconnectDelay` is
 * `reconnect-delay` there.
 */
import { nearest } from '../../src/util/nearest.js'

export type JsonSchema = Readonly<Record<string, unknown>>
export type Path = readonly (string | number)[]

/** One thing that is wrong: where, what, and what to do. */
export interface Problem {
  readonly path: Path
  readonly what: string
  /** It is the name that is wrong, not the value. */
  readonly atKey?: boolean
}

class Misfit extends Error {
  override name = 'Misfit'
  constructor(readonly problem: Problem) {
    super(problem.what)
  }
}

/** Where a value stands. */
export class Place {
  readonly path: Path
  readonly #problems: Problem[]
  /** Names are spelled as in files. */
  readonly kebab: boolean

  constructor(kebab: boolean, problems: Problem[] = [], path: Path = []) {
    this.kebab = kebab
    this.#problems = problems
    this.path = path
  }

  below(key: string | number): Place {
    return new Place(this.kebab, this.#problems, [...this.path, key])
  }

  spelled(name: string): string {
    return this.kebab ? kebab(name) : name
  }

  /** Ends the reading of this value; its neighbours are read all the same. */
  fail(what: string): never {
    throw new Misfit({ path: this.path, what })
  }

  /** How much is wrong so far, anywhere. */
  get problemCount(): number {
    return this.#problems.length
  }

  /** Notes a problem and goes on. */
  note(problem: Problem): void {
    this.#problems.push(problem)
  }

  /** Undefined when the value does not fit. */
  try<T>(read: () => T): T | undefined {
    try {
      return read()
    } catch (error) {
      if (!(error instanceof Misfit)) throw error
      this.#problems.push(error.problem)
      return undefined
    }
  }
}

export interface Shape<Out, In = Out> {
  read(value: unknown, at: Place): Out
  readonly schema: JsonSchema
  /** For the compiler alone. */
  readonly written?: In
}
export interface OptionalShape<Out, In = Out> extends Shape<Out, In> {
  readonly optional: true
}
export interface DefaultShape<Out, In = Out> extends Shape<Out, In> {
  readonly byDefault: Out
}

export type OutOf<S> = S extends Shape<infer Out, unknown> ? Out : never
export type InOf<S> = S extends Shape<unknown, infer In> ? In : never

export type Fields = Readonly<Record<string, Shape<unknown, unknown>>>
type Flat<T> = { [K in keyof T]: T[K] }
type OptionalKeys<F> = { [K in keyof F]: F[K] extends { optional: true } ? K : never }[keyof F]
type DefaultKeys<F> = { [K in keyof F]: F[K] extends { byDefault: unknown } ? K : never }[keyof F]
export type FieldsOut<F> = Flat<
  { readonly [K in Exclude<keyof F, OptionalKeys<F>>]: OutOf<F[K]> } & {
    readonly [K in OptionalKeys<F>]?: OutOf<F[K]>
  }
>
export type FieldsIn<F> = Flat<
  { readonly [K in Exclude<keyof F, OptionalKeys<F> | DefaultKeys<F>>]: InOf<F[K]> } & {
    readonly [K in OptionalKeys<F> | DefaultKeys<F>]?: InOf<F[K]>
  }
>

/**
 * @param kebab the names are spelled as in files
 * @returns what was read, and what is wrong; with problems, the value is worthless
 */
export function readShape<Out>(
  shape: Shape<Out, unknown>,
  value: unknown,
  kebab: boolean,
): { readonly value: Out; readonly problems: readonly Problem[] } {
  const problems: Problem[] = []
  const place = new Place(kebab, problems)
  const read = place.try(() => shape.read(value, place))
  return { value: read as Out, problems }
}

export const kebab = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

export const described = <S extends Shape<unknown, unknown>>(description: string, shape: S): S => ({
  ...shape,
  schema: { ...shape.schema, description },
})

export const optional = <Out, In>(shape: Shape<Out, In>): OptionalShape<Out, In> => ({ ...shape, optional: true })

export const byDefault = <Out, In>(shape: Shape<Out, In>, value: Out): DefaultShape<Out, In> => ({
  ...shape,
  schema: { ...shape.schema, default: value },
  byDefault: value,
})

/** How a value is called in a message. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a mapping'
  return typeof value === 'string' ? `the text '${value}'` : JSON.stringify(value)
}

/** @param wanted a description of what fits, as in "must be ..." */
export const leaf = <Out, In = Out>(
  wanted: string,
  schema: JsonSchema,
  read: (value: unknown) => Out | undefined,
): Shape<Out, In> => ({
  schema,
  read: (value, at) => {
    const out = read(value)
    return out === undefined ? at.fail(`must be ${wanted}, not ${kindOf(value)}`) : out
  },
})

export const text: Shape<string> = leaf('a text', { type: 'string' }, (value) =>
  typeof value === 'string' ? value : undefined,
)

/** A number is taken for its digits: in YAML `seed: 7` is one. */
export const word: Shape<string, string | number> = leaf('a word', { type: ['string', 'number'] }, (value) =>
  typeof value === 'string' || typeof value === 'number' ? String(value) : undefined,
)

export const flag: Shape<boolean> = leaf('true or false', { type: 'boolean' }, (value) =>
  typeof value === 'boolean' ? value : undefined,
)

export const integer = (least = 0, most = Number.MAX_SAFE_INTEGER): Shape<number> =>
  leaf(
    most === Number.MAX_SAFE_INTEGER ? `an integer from ${least} on` : `an integer from ${least} to ${most}`,
    { type: 'integer', minimum: least, maximum: most },
    (value) =>
      typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most ? value : undefined,
  )

export const number: Shape<number> = leaf('a number', { type: 'number' }, (value) =>
  typeof value === 'number' && Number.isFinite(value) ? value : undefined,
)

/** Anything that JSON can say. */
export const json: Shape<unknown> = { schema: {}, read: (value) => value }

export const choice = <const Words extends readonly (string | boolean)[]>(...words: Words): Shape<Words[number]> =>
  leaf(`one of ${words.join(', ')}`, { enum: words }, (value) => words.find((it) => it === value))

export const matching = (wanted: string, pattern: RegExp): Shape<string> =>
  leaf(wanted, { type: 'string', pattern: pattern.source }, (value) =>
    typeof value === 'string' && pattern.test(value) ? value : undefined,
  )

export const list = <Out, In>(shape: Shape<Out, In>, least = 0): Shape<readonly Out[], readonly In[]> => ({
  schema: { type: 'array', items: shape.schema, ...(least > 0 ? { minItems: least } : {}) },
  read: (value, at) => {
    if (!Array.isArray(value)) return at.fail(`must be a list, not ${kindOf(value)}`)
    if (value.length < least) return at.fail(`must have at least ${least} entry`)
    return value.map((item: unknown, n) => {
      const below = at.below(n)
      return below.try(() => shape.read(item, below)) as Out
    })
  },
})

const isMapping = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof RegExp)

/** A mapping whose names the author chooses. */
export const record = <Out, In>(
  shape: Shape<Out, In>,
  name: { readonly wanted: string; readonly pattern: RegExp } = { wanted: 'a name', pattern: /./ },
): Shape<Readonly<Record<string, Out>>, Readonly<Record<string, In>>> => ({
  schema: { type: 'object', additionalProperties: shape.schema, propertyNames: { pattern: name.pattern.source } },
  read: (value, at) => {
    if (!isMapping(value)) return at.fail(`must be a mapping, not ${kindOf(value)}`)
    const out: Record<string, Out> = {}
    for (const [key, item] of Object.entries(value)) {
      const below = at.below(key)
      if (!name.pattern.test(key))
        at.note({ path: below.path, what: `'${key}' cannot be used here: it must be ${name.wanted}`, atKey: true })
      const read = below.try(() => shape.read(item, below))
      if (read !== undefined) out[key] = read
    }
    return out
  },
})

/** A mapping with the names of `fields`. */
export function object<const F extends Fields>(fields: F): Shape<FieldsOut<F>, FieldsIn<F>> {
  return {
    schema: objectSchema(fields),
    read: (value, at) => {
      if (!isMapping(value)) return at.fail(`must be a mapping, not ${kindOf(value)}`)
      refuseUnknown(Object.keys(value), fields, at)
      return readFields(value, fields, at) as FieldsOut<F>
    },
  }
}

function objectSchema(fields: Fields): JsonSchema {
  const names = Object.keys(fields)
  const required = names.filter((name) => !isOptional(fields[name])).map(kebab)
  return {
    type: 'object',
    properties: Object.fromEntries(names.map((name) => [kebab(name), fields[name]?.schema])),
    ...(required.length > 0 ? { required } : {}),
    additionalProperties: false,
  }
}

const isOptional = (shape: Shape<unknown, unknown> | undefined): boolean =>
  shape !== undefined && ('optional' in shape || 'byDefault' in shape)

export function refuseUnknown(keys: readonly string[], fields: Fields, at: Place): void {
  const known = Object.keys(fields).map((name) => at.spelled(name))
  for (const key of keys.filter((it) => !known.includes(it))) {
    const [close] = nearest(key, known)
    const hint = close === undefined ? '' : ` (did you mean ${close}?)`
    const what = `there is no '${key}' here${hint}; known are ${known.join(', ')}`
    at.note({ path: [...at.path, key], what, atKey: true })
  }
}

export function readFields(value: Readonly<Record<string, unknown>>, fields: Fields, at: Place): object {
  const out: Record<string, unknown> = {}
  for (const [name, shape] of Object.entries(fields)) {
    const key = at.spelled(name)
    const given = Object.hasOwn(value, key) ? value[key] : undefined
    const below = at.below(key)
    if (given !== undefined && given !== null) out[name] = below.try(() => shape.read(given, below))
    else if ('byDefault' in shape) out[name] = shape.byDefault
    else if (Object.hasOwn(value, key) && value[key] === null)
      at.note({ path: below.path, what: `'${key}' has no value`, atKey: true })
    else if (!('optional' in shape)) at.note({ path: at.path, what: `'${key}' is missing` })
  }
  return out
}

/** A value of the short form stands for the whole: `guest: true` for `guest: { run: true }`. */
export const short = <Out, In, ShortIn>(
  shape: Shape<Out, In>,
  form: Shape<unknown, ShortIn>,
  stands: (value: ShortIn) => unknown,
  fits: (value: unknown) => boolean = (value) => !isMapping(value),
): Shape<Out, In | ShortIn> => ({
  schema: { anyOf: [form.schema, shape.schema], ...described_(shape.schema) },
  read: (value, at) => shape.read(fits(value) ? stands(form.read(value, at) as ShortIn) : value, at),
})

const described_ = ({ description }: JsonSchema): JsonSchema => (description === undefined ? {} : { description })

/** For shapes that hold themselves: the schema is a reference to a definition of that name. */
export const lazy = <Out, In>(definition: string, shape: () => Shape<Out, In>): Shape<Out, In> => ({
  schema: { $ref: `#/$defs/${definition}` },
  read: (value, at) => shape().read(value, at),
})

/** A value that is checked further, once it has its shape. @param check what is wrong, if anything */
export const where = <Out, In>(shape: Shape<Out, In>, check: (value: Out) => string | undefined): Shape<Out, In> => ({
  ...shape,
  read: (value, at) => {
    const before = at.problemCount
    const out = shape.read(value, at)
    const wrong = at.problemCount > before ? undefined : check(out)
    return wrong === undefined ? out : at.fail(wrong)
  },
})
