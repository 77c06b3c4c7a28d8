/**
 * The words behind a command made into its arguments: `key=value`, dotted keys (`file.driver=nbd`, `children.0=n1`), and JSON objects,
 * which may stand together. Values become what the schema says they are: `id=5` is a string where a string is wanted. What the
 * schema does not know is sent as it looks, since the server has the last word.
 */
import { isObject, type JsonObject } from '../../src/qmp/message.js'
import { membersOf, objectIn, type ObjectType, type SchemaType } from '../../src/qmp/schema-model.js'
import { nearest } from '../../src/util/nearest.js'
import { UsageError } from '../../src/util/errors.js'
import { guess, type Variables } from './variables.js'
import type { Word } from './words.js'

/** Text whose type is not known yet. */
class Text {
  constructor(
    readonly text: string,
    readonly quoted: boolean,
  ) {}
}

/** Keys in order. A Map, so that `__proto__` is a key like others. */
type Tree = Map<string, Branch>
type Branch = Tree | Text | { readonly json: unknown }

/**
 * @param type of the arguments; without it values are what they look like
 * @throws UsageError that names the argument
 */
export function readArguments(words: readonly Word[], variables: Variables, type?: ObjectType): JsonObject {
  const tree: Tree = new Map()
  for (const word of words) {
    if (word.key === undefined) merge(tree, word, variables)
    else insert(tree, word.key.split('.'), leafOf(word, variables), word.key)
  }
  return convertObject(tree, type, '')
}

function leafOf({ value, key }: Word, variables: Variables): Branch {
  if (value.kind === 'json') return { json: variables.parseJson(value.pieces) }
  const [first] = value.pieces
  if (value.pieces.length === 1 && first?.kind === 'variable' && !value.quoted)
    return { json: variables.get(first.path) }
  const text = variables.expandText(value.pieces)
  if (text === '' && !value.quoted)
    throw new UsageError(`${key ?? ''}= has no value (the empty string is ${key ?? ''}="")`)
  return new Text(text, value.quoted)
}

/** A word without a key is an object, whose members are arguments. */
function merge(tree: Tree, word: Word, variables: Variables): void {
  const value = variables.evaluate(word.value)
  if (!isObject(value)) {
    throw new UsageError(`'${word.raw}' is no argument: arguments are key=value or a JSON object {"key": value}`)
  }
  for (const [key, json] of Object.entries(value)) insert(tree, [key], { json }, key)
}

function insert(tree: Tree, [step = '', ...rest]: readonly string[], leaf: Branch, key: string): void {
  if (step === '') throw new UsageError(`'${key}' is no key: a part of it is empty`)
  const present = tree.get(step)
  if (rest.length === 0) {
    if (present !== undefined) throw new UsageError(`'${key}' is given twice`)
    tree.set(step, leaf)
    return
  }
  if (present !== undefined && !(present instanceof Map))
    throw new UsageError(`'${key}' is given, and also what it is a part of`)
  const branch: Tree = present ?? new Map<string, Branch>()
  tree.set(step, branch)
  insert(branch, rest, leaf, key)
}

function convertObject(tree: Tree, type: ObjectType | undefined, prefix: string): JsonObject {
  const members = type && membersOf(type, tagsOf(tree))
  const entries = [...tree].map(([name, branch]) => {
    const member = members?.find((each) => each.name === name)
    return [name, convert(branch, member?.type, prefix + name)] as const
  })
  return Object.fromEntries(entries)
}

/** What `membersOf` may look at: all strings, for a tag is one of them. */
function tagsOf(tree: Tree): JsonObject {
  return Object.fromEntries(
    [...tree].flatMap(([name, branch]) => {
      const value = branch instanceof Text ? branch.text : branch instanceof Map ? undefined : branch.json
      return typeof value === 'string' ? [[name, value]] : []
    }),
  )
}

function convert(branch: Branch, type: SchemaType | undefined, key: string): unknown {
  if (branch instanceof Map) return convertBranch(branch, type, key)
  if (!(branch instanceof Text)) return branch.json
  return type === undefined ? untyped(branch) : typed(branch, type, key)
}

function convertBranch(tree: Tree, type: SchemaType | undefined, key: string): unknown {
  const isList = type?.kind === 'array' || (type?.kind !== 'object' && hasIndexes(tree))
  if (!isList) return convertObject(tree, type && objectIn(type), `${key}.`)
  if (!hasIndexes(tree)) throw new UsageError(`'${key}' is a list: its keys are ${key}.0, ${key}.1, ...`)
  const of = type?.kind === 'array' ? type.of : undefined
  return [...tree]
    .sort(([one], [other]) => Number(one) - Number(other))
    .map(([index, item]) => convert(item, of, `${key}.${index}`))
}

const hasIndexes = (tree: Tree): boolean => {
  const indexes = [...tree.keys()].map(Number).sort((one, other) => one - other)
  return indexes.every((index, position) => index === position)
}

const untyped = ({ text, quoted }: Text): unknown => (quoted ? text : guess(text))

function typed(leaf: Text, type: SchemaType, key: string): unknown {
  switch (type.kind) {
    case 'builtin':
      return builtin(leaf, type.json, key)
    case 'enum':
      return enumValue(leaf.text, type.values, key)
    case 'array':
      return itemsOf(leaf).map((item) => typed(item, type.of, key))
    case 'object':
      throw new UsageError(`'${key}' is an object: give it as ${key}.NAME=VALUE or ${key}={"NAME": VALUE}`)
    case 'alternate':
      return alternative(leaf, type.of, key)
  }
}

/** A list of names is written with commas; what stands in quotes is one item. */
function itemsOf(leaf: Text): Text[] {
  if (leaf.quoted) return [leaf]
  return leaf.text === '' ? [] : leaf.text.split(',').map((text) => new Text(text, false))
}

function builtin(leaf: Text, json: string, key: string): unknown {
  switch (json) {
    case 'string':
      return leaf.text
    case 'int':
      return integer(leaf.text, key)
    case 'number':
      return number(leaf.text, key)
    case 'boolean':
      return boolean(leaf.text, key)
    case 'null':
      return null
    default:
      return untyped(leaf)
  }
}

const UNITS = 'KMGTPE'

/** `4096`, `0x1000`, `64M`: units are powers of 1024. */
function integer(text: string, key: string): number {
  const [, digits, unit = ''] = /^(-?\d+|0x[\da-f]+)([KMGTPE]?)$/i.exec(text) ?? []
  if (digits === undefined) throw new UsageError(`'${key}' is an integer, and '${text}' is none (64M, 0x200 are)`)
  const value = Number(digits) * 1024 ** (unit === '' ? 0 : UNITS.indexOf(unit.toUpperCase()) + 1)
  if (Number.isSafeInteger(value)) return value
  throw new UsageError(`'${key}': ${text} cannot be sent exactly: integers beyond 2^53 would be rounded`)
}

function number(text: string, key: string): number {
  const value = Number(text)
  if (text.trim() !== '' && Number.isFinite(value)) return value
  throw new UsageError(`'${key}' is a number, and '${text}' is none`)
}

const BOOLEANS: ReadonlyMap<string, boolean> = new Map([
  ['true', true],
  ['on', true],
  ['yes', true],
  ['false', false],
  ['off', false],
  ['no', false],
])

function boolean(text: string, key: string): boolean {
  const value = BOOLEANS.get(text)
  if (value === undefined) throw new UsageError(`'${key}' is true or false, not '${text}'`)
  return value
}

function enumValue(text: string, values: readonly string[], key: string): string {
  if (values.includes(text)) return text
  const [close] = nearest(text, values)
  const hint = close === undefined ? `it is one of ${values.join(', ')}` : `did you mean '${close}'?`
  throw new UsageError(`'${key}' cannot be '${text}': ${hint}`)
}

/** The most special one that the text can be. Text in quotes is a string where that is possible. */
function alternative(leaf: Text, types: readonly SchemaType[], key: string): unknown {
  const isString = (type: SchemaType): boolean => type.kind === 'builtin' && type.json === 'string'
  const strings = types.filter(isString)
  const others = types.filter((type) => !isString(type) && type.kind !== 'object' && type.kind !== 'array')
  for (const type of leaf.quoted && strings.length > 0 ? strings : [...others, ...strings]) {
    // `null` is written as a word, so that it does not swallow names.
    if (type.kind === 'builtin' && type.json === 'null' && leaf.text !== 'null') continue
    try {
      return typed(leaf, type, key)
    } catch (error) {
      if (!(error instanceof UsageError)) throw error
    }
  }
  throw new UsageError(`'${key}' cannot be '${leaf.text}'`)
}
