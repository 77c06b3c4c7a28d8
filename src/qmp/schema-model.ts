/**
 * What a server says of itself with `query-qmp-schema`, as a graph of types: commands, events, their arguments, enumerations,
 * objects with variants, and alternates. Types refer to each other in circles (a block device is an option of another one), so whoever
 * walks them has to follow what was typed, never everything.
 */

import { QmpProtocolError } from './error.js'
import { isObject, type JsonObject } from './message.js'

export type SchemaType = BuiltinType | EnumType | ArrayType | ObjectType | AlternateType

export interface BuiltinType {
  readonly kind: 'builtin'
  /** What JSON has there: `string`, `int`, `number`, `boolean`, `null`, `value` (anything). */
  readonly json: string
}

export interface EnumType {
  readonly kind: 'enum'
  readonly values: readonly string[]
}

export interface ArrayType {
  readonly kind: 'array'
  readonly of: SchemaType
}

export interface ObjectType {
  readonly kind: 'object'
  /** Those that every object of this type has; see `membersOf` for those that depend on the tag. */
  readonly members: readonly SchemaMember[]
  /** Name of the member, an enumeration, whose value says which further members there are. */
  readonly tag: string | undefined
  readonly variants: ReadonlyMap<string, ObjectType>
}

/** One of several types, told apart by what JSON has there: a block node is a name, or an object that describes it. */
export interface AlternateType {
  readonly kind: 'alternate'
  readonly of: readonly SchemaType[]
}

export interface SchemaMember {
  readonly name: string
  readonly type: SchemaType
  readonly optional: boolean
  /** `deprecated`, `unstable`, and others that QEMU's manual explains. */
  readonly features: readonly string[]
}

export interface SchemaCommand {
  readonly name: string
  readonly arguments: ObjectType
  readonly returns: SchemaType
  /** May be sent as `exec-oob`. */
  readonly oob: boolean
  readonly features: readonly string[]
  /** One sentence. Servers of nbd-remap send one, QEMU does not. */
  readonly description: string | undefined
}

export interface SchemaEvent {
  readonly name: string
  readonly data: ObjectType
  readonly features: readonly string[]
  readonly description: string | undefined
}

export class QmpSchema {
  readonly commands: ReadonlyMap<string, SchemaCommand>
  readonly events: ReadonlyMap<string, SchemaEvent>

  private constructor(commands: ReadonlyMap<string, SchemaCommand>, events: ReadonlyMap<string, SchemaEvent>) {
    this.commands = commands
    this.events = events
  }

  /**
   * @param answer to `query-qmp-schema`
   * @throws QmpProtocolError when it is not a schema, with the entry that is wrong
   */
  static parse(answer: unknown): QmpSchema {
    const entries = entriesOf(answer)
    const types = new Types(entries)
    const commands = new Map<string, SchemaCommand>()
    const events = new Map<string, SchemaEvent>()
    for (const entry of entries) {
      const { name, description } = entry
      const told = {
        name,
        features: namesIn(entry['features']),
        description: typeof description === 'string' ? description : undefined,
      }
      const ofType = (member: string): SchemaType => types.get(entry[member], name)
      if (entry['meta-type'] === 'command') {
        const oob = entry['allow-oob'] === true
        commands.set(name, {
          ...told,
          arguments: types.object(entry['arg-type'], name),
          returns: ofType('ret-type'),
          oob,
        })
      } else if (entry['meta-type'] === 'event') {
        events.set(name, { ...told, data: types.object(entry['arg-type'], name) })
      }
    }
    return new QmpSchema(commands, events)
  }
}

type Entry = JsonObject & { readonly name: string }

function entriesOf(answer: unknown): Entry[] {
  if (!Array.isArray(answer)) throw new QmpProtocolError('the schema is not an array')
  return answer.map((entry: unknown, index) => {
    if (isObject(entry) && typeof entry['name'] === 'string') return entry as Entry
    throw new QmpProtocolError(`entry ${index} of the schema has no name`)
  })
}

/** Resolves the names of types. A type is in the table before its parts are, so circles close by themselves. */
class Types {
  readonly #entries: ReadonlyMap<string, Entry>
  readonly #types = new Map<string, SchemaType>()

  constructor(entries: readonly Entry[]) {
    this.#entries = new Map(
      entries
        .filter((entry) => entry['meta-type'] !== 'command' && entry['meta-type'] !== 'event')
        .map((entry) => [entry.name, entry]),
    )
  }

  object(name: unknown, owner: string): ObjectType {
    const type = this.get(name, owner)
    if (type.kind !== 'object') throw new QmpProtocolError(`schema of '${owner}': type '${String(name)}' is no object`)
    return type
  }

  get(name: unknown, owner: string): SchemaType {
    if (typeof name !== 'string') throw new QmpProtocolError(`schema of '${owner}' lacks the name of a type`)
    const known = this.#types.get(name)
    if (known !== undefined) return known
    const entry = this.#entries.get(name)
    if (entry === undefined) throw new QmpProtocolError(`schema of '${owner}': there is no type '${name}'`)
    return this.#build(entry)
  }

  #build(entry: Entry): SchemaType {
    switch (entry['meta-type']) {
      case 'builtin':
        return this.#keep(entry, { kind: 'builtin', json: String(entry['json-type']) })
      case 'enum':
        return this.#keep(entry, { kind: 'enum', values: namesIn(entry['members'] ?? entry['values']) })
      case 'array': {
        const array: ArrayType & { of: SchemaType } = { kind: 'array', of: UNRESOLVED }
        this.#keep(entry, array)
        array.of = this.get(entry['element-type'], entry.name)
        return array
      }
      case 'alternate': {
        const of: SchemaType[] = []
        const alternate = this.#keep(entry, { kind: 'alternate', of })
        for (const member of objectsIn(entry['members'])) of.push(this.get(member['type'], entry.name))
        return alternate
      }
      case 'object':
        return this.#buildObject(entry)
      default:
        throw new QmpProtocolError(
          `schema: type '${entry.name}' is a '${String(entry['meta-type'])}', which is unknown`,
        )
    }
  }

  #buildObject(entry: Entry): SchemaType {
    const members: SchemaMember[] = []
    const variants = new Map<string, ObjectType>()
    const tag = typeof entry['tag'] === 'string' ? entry['tag'] : undefined
    const object = this.#keep(entry, { kind: 'object', members, tag, variants })
    for (const member of objectsIn(entry['members'])) {
      const type = this.get(member['type'], entry.name)
      const features = namesIn(member['features'])
      members.push({ name: String(member['name']), type, optional: Object.hasOwn(member, 'default'), features })
    }
    for (const variant of objectsIn(entry['variants'])) {
      variants.set(String(variant['case']), this.object(variant['type'], entry.name))
    }
    return object
  }

  #keep(entry: Entry, type: SchemaType): SchemaType {
    this.#types.set(entry.name, type)
    return type
  }
}

const UNRESOLVED: SchemaType = { kind: 'builtin', json: 'value' }

const objectsIn = (value: unknown): JsonObject[] => (Array.isArray(value) ? value.filter(isObject) : [])

/** Names stand alone or as the member `name`, by the age of QEMU. */
function namesIn(value: unknown): string[] {
  const items: unknown[] = Array.isArray(value) ? value : []
  return items.flatMap((item) => {
    const name = isObject(item) ? item['name'] : item
    return typeof name === 'string' ? [name] : []
  })
}

/**
 * The members that an object may have, given what is known of it: those of all, and those of the variant that its tag selects.
 * @param given the object so far; other members than the tag do not matter
 */
export function membersOf(type: ObjectType, given: JsonObject = {}): readonly SchemaMember[] {
  if (type.tag === undefined) return type.members
  const tag = given[type.tag]
  const variant = typeof tag === 'string' ? type.variants.get(tag) : undefined
  return variant === undefined ? type.members : [...type.members, ...membersOf(variant, given)]
}

/**
 * The type at a dotted key, `file.server.type` as `['file', 'server', 'type']`. Numbers lead into arrays, and of an alternate the
 * object is followed. `[]` is the object itself.
 * @param given the object so far, nested: its tags select the variants
 * @returns undefined when there is nothing of that name
 */
export function typeAt(type: SchemaType, path: readonly string[], given: unknown = {}): SchemaType | undefined {
  const [name, ...rest] = path
  if (name === undefined) return type
  switch (type.kind) {
    case 'object': {
      const object = isObject(given) ? given : {}
      const member = membersOf(type, object).find((each) => each.name === name)
      return member && typeAt(member.type, rest, object[name])
    }
    case 'array':
      if (!/^\d+$/.test(name)) return undefined
      return typeAt(type.of, rest, Array.isArray(given) ? given[Number(name)] : undefined)
    case 'alternate': {
      for (const one of type.of) {
        const found = typeAt(one, path, given)
        if (found !== undefined) return found
      }
      return undefined
    }
    default:
      return undefined
  }
}

/** The object that a type is, or that it can be; undefined when it cannot. */
export function objectIn(type: SchemaType): ObjectType | undefined {
  if (type.kind === 'object') return type
  return type.kind === 'alternate' ? type.of.find((one) => one.kind === 'object') : undefined
}

/** The words that can stand there: those of an enumeration, `true` and `false`; none when it may be anything. */
export function wordsOf(type: SchemaType): readonly string[] {
  switch (type.kind) {
    case 'enum':
      return type.values
    case 'builtin':
      return type.json === 'boolean' ? ['true', 'false'] : []
    case 'alternate':
      return type.of.flatMap(wordsOf)
    default:
      return []
  }
}

const WORDS_SHOWN = 8

/** For people: `string`, `on|off`, `[int]`, `object`, `string or object`. */
export function typeText(type: SchemaType): string {
  switch (type.kind) {
    case 'builtin':
      return type.json === 'value' ? 'any' : type.json
    case 'enum':
      return type.values.length <= WORDS_SHOWN
        ? type.values.join('|')
        : `${type.values.slice(0, WORDS_SHOWN).join('|')}|...`
    case 'array':
      return `[${typeText(type.of)}]`
    case 'object':
      return 'object'
    case 'alternate':
      return type.of.map(typeText).join(' or ')
  }
}
