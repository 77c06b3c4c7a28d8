/** The tables of docs/SCENARIOS.md, from the table that reads the files. */
import { builtInScenarios } from './built-in.js'
import { checks, control, measure } from './format-checks.js'
import { assertion, matcher } from './format-observe.js'
import { disk, drive, machine, server } from './format-stage.js'
import { verbs } from './format-steps.js'
import { scenarioShape } from './format.js'
import { kebab, type JsonSchema } from './shape.js'

const BEGINS = (name: string): string => `<!-- ${name}: written by npm run docs -->\n`
const ENDS = (name: string): string => `<!-- end of ${name} -->`

const TABLES: Readonly<Record<string, () => string>> = {
  'built-in': builtIn,
  scenario: () => members(scenarioShape.schema),
  disk: () => members(disk.schema),
  server: () => members(server.schema),
  machine: () => members(machine.schema),
  drive: () => members(drive.schema),
  steps: steps,
  observations: () => members(assertion.schema),
  matchers: () => members(matcher.schema),
  checks: () => members(checks.schema),
  measure: () => members(measure.schema),
  control: () => members(control.schema),
}

/** docs/SCENARIOS.md with the tables of now between their marks. */
export function withScenarioTables(text: string): string {
  return Object.entries(TABLES).reduce((whole, [name, table]) => {
    const [head, rest = ''] = whole.split(BEGINS(name))
    const [, tail] = rest.split(ENDS(name))
    if (head === undefined || tail === undefined)
      throw new Error(`docs/SCENARIOS.md has no marks for the table '${name}'`)
    return `${head}${BEGINS(name)}\n${table()}\n${ENDS(name)}${tail}`
  }, text)
}

function builtIn(): string {
  const body = builtInScenarios().map(({ name, scenario }) => [
    `[${name}](../qemu/scenarios/${name}.yaml)`,
    scenario.title,
    scenario.control?.title ?? '',
  ])
  return rows(['scenario', 'what it shows', 'its control run'], body)
}

function steps(): string {
  return Object.entries(verbs)
    .map(([verb, { schema }]) => `- \`${kebab(verb)}\`: ${descriptionOf(schema)}\n${memberList(schema)}`)
    .join('')
}

function members(schema: JsonSchema): string {
  const [properties, required] = propertiesOf(schema)
  return rows(
    ['member', 'meaning', 'default'],
    Object.entries(properties).map(([name, it]) => [
      `\`${name}\``,
      descriptionOf(it),
      it['default'] !== undefined
        ? `\`${JSON.stringify(it['default'])}\``
        : required.includes(name)
          ? 'has to be given'
          : '',
    ]),
  )
}

/** The members of the long form, each with what it is for. */
function memberList(schema: JsonSchema): string {
  const [properties] = propertiesOf(schema)
  const names = Object.entries(properties)
  // The rules of faults have a document of their own.
  if (names.length > 15) return '  - `on`: name of a disk or a server; and the members of [FAULTS.md](FAULTS.md)\n'
  return names
    .map(([name, it]) => `  - ${[`\`${name}\``, descriptionOf(it)].filter((text) => text !== '').join(': ')}\n`)
    .join('')
}

function propertiesOf(schema: JsonSchema): [Readonly<Record<string, JsonSchema>>, readonly string[]] {
  const forms = (schema['anyOf'] as readonly JsonSchema[] | undefined) ?? [schema]
  const form = forms.find((it) => it['properties'] !== undefined) ?? {}
  return [
    (form['properties'] ?? {}) as Readonly<Record<string, JsonSchema>>,
    (form['required'] ?? []) as readonly string[],
  ]
}

function descriptionOf(schema: JsonSchema): string {
  const text = (schema['description'] as string | undefined) ?? ''
  const words = schema['enum'] as readonly unknown[] | undefined
  return [text, ...(words === undefined ? [] : [words.map((word) => `\`${String(word)}\``).join(', ')])]
    .filter((part) => part !== '')
    .join(' ')
    .replaceAll('|', '\\|')
}

/** As prettier has tables. */
function rows(head: readonly string[], body: readonly (readonly string[])[]): string {
  const all = [head, ...body]
  const widths = head.map((_, column) => Math.max(3, ...all.map((row) => row[column]?.length ?? 0)))
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, n) => cell.padEnd(widths[n] ?? 0)).join(' | ')} |\n`
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...body.map(line)].join('')
}
