/**
 * The file of `serve --config`: YAML, a mapping of the options' names to their values. Each value goes through the parser
 * of its option, so the file and the command line take the same and refuse the same.
 */
import { readFileSync } from 'node:fs'
import { CommanderError, InvalidArgumentError, type Option } from 'commander'
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Node, type Pair } from 'yaml'
import { fileProblem, UsageError } from '../util/errors.js'

const CONFIG_BYTES_MAX = 65_536

/** A value and where it stands. */
export interface ConfigEntry {
  readonly option: Option
  readonly value: unknown
  readonly line: number
}

export class ConfigFile {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  /** @throws UsageError */
  read(): string {
    try {
      const text = readFileSync(this.path, 'utf8')
      if (Buffer.byteLength(text) > CONFIG_BYTES_MAX) throw new Error(`it has more than ${CONFIG_BYTES_MAX} bytes`)
      return text
    } catch (error) {
      throw new UsageError(
        `the configuration ${this.path} cannot be read: ${fileProblem(error)} (--config takes a file with lines of the form "main: /dev/sdb")`,
        { cause: error },
      )
    }
  }

  /** By the attribute names of the options. @throws UsageError that names the line */
  parse(text: string, options: readonly Option[]): ReadonlyMap<string, ConfigEntry> {
    const lines = new LineCounter()
    const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
    const lineOf = (offset: number): number => lines.linePos(offset).line
    const [problem] = [...document.errors, ...document.warnings]
    if (problem) this.#fail(lineOf(problem.pos[0]), problem.message)
    const { contents } = document
    const entries = new Map<string, ConfigEntry>()
    if (contents === null || (isScalar(contents) && contents.value === null)) return entries
    if (!isMap<Node, Node | null>(contents)) return this.#fail(1, 'it must be lines of the form "option: value"')
    for (const pair of contents.items) {
      const line = lineOf(pair.key.range[0])
      const { option, value } = this.#entry(pair, options, line)
      entries.set(option.attributeName(), { option, value, line })
    }
    this.#refuseContradictions(entries)
    return entries
  }

  /** Options that are given elsewhere do not go with this one. */
  excludes(given: readonly Option[], option: Option): boolean {
    return given.some((other) => excludes(other, option) || excludes(option, other))
  }

  #entry(pair: Pair<Node, Node | null>, options: readonly Option[], line: number): Omit<ConfigEntry, 'line'> {
    try {
      const option = optionOf(pair, options)
      return { option, value: valueOf(option, pair.value) }
    } catch (error) {
      if (!(error instanceof InvalidArgumentError)) throw error
      return this.#fail(line, error.message)
    }
  }

  /** Options that exclude one another on the command line do so here. */
  #refuseContradictions(entries: ReadonlyMap<string, ConfigEntry>): void {
    const set = [...entries.values()].filter(({ value }) => value !== undefined)
    for (const { option, line } of set) {
      const other = set.find((it) => excludes(option, it.option))
      if (other)
        this.#fail(line, `'${nameOf(option)}' does not go with '${nameOf(other.option)}' of line ${other.line}`)
    }
  }

  #fail(line: number, what: string): never {
    throw new UsageError(`${this.path}, line ${line}: ${what}`)
  }
}

const nameOf = ({ long }: Option): string => long?.slice(2) ?? ''

/** commander has no type for what it knows of this. */
const excludes = (one: Option, other: Option): boolean =>
  (one as Option & { readonly conflictsWith: readonly string[] }).conflictsWith.includes(other.attributeName())

function optionOf({ key }: Pair<Node, Node | null>, options: readonly Option[]): Option {
  const name = isScalar(key) ? String(key.value) : ''
  const option = options.find(({ long }) => long === `--${name}`)
  if (option) return option
  throw new InvalidArgumentError(
    `there is no option '${name}' (nbd-remap serve --help lists them, here without dashes)`,
  )
}

function valueOf(option: Option, node: Node | null): unknown {
  const name = nameOf(option)
  if (option.isBoolean()) {
    if (isScalar(node) && typeof node.value === 'boolean') return node.value || undefined
    throw new InvalidArgumentError(`'${name}' must be true or false`)
  }
  // Without a value, on the command line.
  if (option.optional && isScalar(node) && typeof node.value === 'boolean') return node.value || undefined
  const texts = textsOf(node, name)
  let value: unknown
  for (const [n, text] of texts.entries()) {
    const parsed = parse(option, name, text, value)
    if (n > 0 && sameValue(parsed, parse(option, name, text, undefined)))
      throw new InvalidArgumentError(`'${name}' takes one value`)
    value = parsed
  }
  return value
}

/** An option that takes several values keeps the ones before, any other forgets them. */
const sameValue = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other)

/** One value, a list of them, or `name: value` for options of the form NAME=VALUE; as they are written. */
function textsOf(node: Node | null, name: string): readonly string[] {
  if (isSeq<Node>(node)) return node.items.flatMap((item) => textsOf(item, name))
  if (isMap<Node, Node | null>(node))
    return node.items.flatMap(({ key, value }) => textsOf(value, name).map((text) => `${String(key)}=${text}`))
  if (isScalar(node) && node.value !== null) return [node.source ?? '']
  throw new InvalidArgumentError(`'${name}' has no value${isAlias(node) ? ' of its own' : ''}`)
}

function parse(option: Option, name: string, text: string, previous: unknown): unknown {
  try {
    return option.parseArg ? option.parseArg(text, previous) : text
  } catch (error) {
    if (error instanceof CommanderError) throw new InvalidArgumentError(`'${name}: ${text}': ${error.message}`)
    throw error
  }
}
