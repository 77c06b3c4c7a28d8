/**
 * The command table told to others: `query-qmp-schema` in QEMU's form (docs/devel/qapi-code-gen, "Client JSON Protocol
 * introspection"), for programs, and `helpText` for people. As in QEMU, names of types are numbers that mean nothing; the member
 * `description` is ours.
 */

import type { Command, EventTable, QmpMembers, QmpType } from './schema.js'

export interface SchemaInfo {
  readonly name: string
  readonly 'meta-type': 'builtin' | 'enum' | 'array' | 'object' | 'command' | 'event'
  readonly [member: string]: unknown
}

const BUILTINS = { int: 'int', size: 'int', number: 'number', bool: 'boolean', str: 'string', any: 'value' } as const
const isBuiltin = (kind: QmpType['kind']): kind is keyof typeof BUILTINS => Object.hasOwn(BUILTINS, kind)

export function schemaOf(commands: ReadonlyMap<string, Command>, events: EventTable): SchemaInfo[] {
  const types = new TypeNames()
  const entries: SchemaInfo[] = []
  for (const [name, { description, arguments: members, returns }] of commands) {
    const argType = types.ofObject(members)
    const retType = returns === undefined ? types.ofObject({}) : types.of(returns)
    const told = { 'arg-type': argType, 'ret-type': retType, 'allow-oob': false, description }
    entries.push({ name, 'meta-type': 'command', ...told })
  }
  for (const [name, { description, data = {} }] of Object.entries(events)) {
    entries.push({ name, 'meta-type': 'event', 'arg-type': types.ofObject(data), description })
  }
  return [...entries, ...types.entries]
}

/** Gives every type a name; types that look alike share one. */
class TypeNames {
  readonly #entries = new Map<string, SchemaInfo>()
  readonly #numbers = new Map<string, string>()

  get entries(): SchemaInfo[] {
    return [...this.#entries.values()]
  }

  of(type: QmpType): string {
    if (isBuiltin(type.kind)) {
      return this.#add({ name: type.kind, 'meta-type': 'builtin', 'json-type': BUILTINS[type.kind] })
    }
    switch (type.kind) {
      case 'array': {
        const item = this.of(type.of)
        return this.#add({ name: `[${item}]`, 'meta-type': 'array', 'element-type': item })
      }
      case 'enum': {
        const members = type.values.map((name) => ({ name }))
        return this.#numbered({ 'meta-type': 'enum', members, values: type.values })
      }
      case 'object':
        return this.ofObject(type.members)
    }
    return 'any'
  }

  ofObject(described: QmpMembers): string {
    const members = Object.entries(described).map(([name, member]) => {
      const type = this.of(member)
      // QEMU says with `default: null` that a member is optional.
      return member.optional === true ? { name, type, default: null } : { name, type }
    })
    return this.#numbered({ 'meta-type': 'object', members })
  }

  #numbered(info: Omit<SchemaInfo, 'name'> & Pick<SchemaInfo, 'meta-type'>): string {
    const key = JSON.stringify(info)
    const known = this.#numbers.get(key)
    if (known !== undefined) return known
    const name = String(this.#numbers.size)
    this.#numbers.set(key, name)
    return this.#add({ ...info, name })
  }

  #add(info: SchemaInfo): string {
    this.#entries.set(info.name, info)
    return info.name
  }
}

/** One line for each command: its name, its arguments with optional ones in brackets, and what it does. */
export function helpText(commands: ReadonlyMap<string, Command>): string {
  const rows = [...commands].map(([name, { arguments: members, description }]) => {
    const usage = Object.entries(members).map(([name, { optional }]) => (optional === true ? `[${name}]` : name))
    return { usage: [name, ...usage].join(' '), description }
  })
  const width = Math.max(0, ...rows.map(({ usage }) => usage.length))
  return rows.map(({ usage, description }) => `${usage.padEnd(width)}  ${description}\n`).join('')
}
