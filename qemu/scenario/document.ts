/**
 * A scenario file: YAML, read with the places of everything in it, so that whatever is wrong, at once or during the run,
 * is told as `file:line:column`.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { isMap, isScalar, isSeq, LineCounter, parseDocument, type Document, type Node } from 'yaml'
import { fileProblem, messageOf, UsageError } from '../../src/util/errors.js'
import { controlSetup } from './control.js'
import { scenarioShape, type Scenario } from './format.js'
import { withParameters, type ParameterValue } from './parameters.js'
import { implausible } from './plausible.js'
import { readShape, type Path, type Problem } from './shape.js'

const FILE_BYTES_MAX = 1024 * 1024

/** The file cannot be run as it stands: a line for each thing that is wrong. */
export class ScenarioFileError extends UsageError {
  override name = 'ScenarioFileError'
}

export class ScenarioFile {
  readonly path: string
  readonly scenario: Scenario
  readonly name: string
  readonly #places: Places

  private constructor(file: string, scenario: Scenario, places: Places) {
    this.path = file
    this.scenario = scenario
    this.name = scenario.name ?? path.basename(file).replace(/\.ya?ml$/, '')
    this.#places = places
  }

  /** @param given values of its parameters. @throws ScenarioFileError */
  static read(file: string, given: Readonly<Record<string, ParameterValue>> = {}): ScenarioFile {
    return ScenarioFile.parse(readText(file), file, given)
  }

  /** @param file for messages, and what images are relative to. @throws ScenarioFileError */
  static parse(text: string, file: string, given: Readonly<Record<string, ParameterValue>> = {}): ScenarioFile {
    const lines = new LineCounter()
    const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
    const places = new Places(file, document, lines)
    const broken = [...document.errors, ...document.warnings]
    if (broken.length > 0)
      throw new ScenarioFileError(broken.map(({ pos, message }) => `${places.at(pos[0])}: ${message}`).join('\n'))
    const value = toJavaScript(document, file, given)
    const { value: scenario, problems } = readShape(scenarioShape, value, true)
    const all =
      problems.length > 0
        ? problems
        : [...implausible(scenario, path.dirname(file)), ...controlSetup(scenario).problems]
    if (all.length > 0) throw new ScenarioFileError(places.tellAll(all))
    return new ScenarioFile(file, scenario, places)
  }

  /** `file:line:column` of what stands there. */
  where(at: Path): string {
    return this.#places.of(at)
  }
}

function readText(file: string): string {
  try {
    const text = readFileSync(file, 'utf8')
    if (Buffer.byteLength(text) > FILE_BYTES_MAX) throw new Error(`it has more than ${FILE_BYTES_MAX} bytes`)
    return text
  } catch (error) {
    throw new ScenarioFileError(`the scenario ${file} cannot be read: ${fileProblem(error)}`, { cause: error })
  }
}

function toJavaScript(document: Document, file: string, given: Readonly<Record<string, ParameterValue>>): unknown {
  try {
    return withParameters(document.toJS({ maxAliasCount: 100 }), given)
  } catch (error) {
    throw new ScenarioFileError(`${file}: ${messageOf(error)}`, { cause: error })
  }
}

/** Where things stand in the text. */
class Places {
  readonly #file: string
  readonly #document: Document
  readonly #lines: LineCounter

  constructor(file: string, document: Document, lines: LineCounter) {
    this.#file = file
    this.#document = document
    this.#lines = lines
  }

  at(offset: number): string {
    const { line, col } = this.#lines.linePos(offset)
    return `${this.#file}:${line}:${col}`
  }

  /** In the order of the text. */
  tellAll(problems: readonly Problem[]): string {
    const offsets = problems.map((problem) => ({
      problem,
      offset: this.#offsetOf(problem.path, problem.atKey ?? false),
    }))
    return offsets
      .sort((a, b) => a.offset - b.offset)
      .map(({ problem: { path: at, what, atKey }, offset }) => {
        const name = at.length === 0 ? 'the scenario' : dotted(at)
        return `${this.at(offset)}: ${atKey ? '' : `${name} `}${what}`
      })
      .join('\n')
  }

  of(at: Path): string {
    return this.at(this.#offsetOf(at, false))
  }

  /** Of the deepest node that is there. */
  #offsetOf(at: Path, atKey: boolean): number {
    let node: unknown = this.#document.contents
    let offset = offsetOf(node) ?? 0
    for (const [n, key] of at.entries()) {
      const last = n === at.length - 1
      const { keyNode, value } = childOf(node, key)
      if (keyNode === undefined && value === undefined) break
      // A missing value, or a wrong name, is shown where the name stands.
      offset = (last && atKey ? offsetOf(keyNode) : offsetOf(value)) ?? offsetOf(keyNode) ?? offset
      node = value
    }
    return offset
  }
}

function childOf(node: unknown, key: string | number): { keyNode?: unknown; value?: unknown } {
  if (isSeq(node) && typeof key === 'number') return { value: node.items[key] }
  if (!isMap(node)) return {}
  const pair = node.items.find((it) => isScalar(it.key) && String(it.key.value) === String(key))
  return pair === undefined ? {} : { keyNode: pair.key, value: pair.value }
}

const offsetOf = (node: unknown): number | undefined => (node as Node | null | undefined)?.range?.[0]

/** `steps.3.guest`, counted from 1 as people do. */
const dotted = (at: Path): string => at.map((key) => (typeof key === 'number' ? String(key + 1) : key)).join('.')
