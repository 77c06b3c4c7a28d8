/** The tables of docs/FAULTS.md, from the vocabulary. `npm run docs` puts them between its marks. */
import type { QmpMember, QmpMembers } from '../qmp/schema.js'
import { EFFECTS, FAULT_MEMBERS, GROWTH } from './vocabulary.js'

const TABLES: Readonly<Record<string, () => string>> = {
  members: () => table(['member', 'type', 'meaning'], [...rowsOf(FAULT_MEMBERS), ...rowsOf(GROWTH.members, 'grow.')]),
  effects: () =>
    table(
      ['effect', 'what happens', 'for these operations', 'if none are named', 'members'],
      Object.entries(EFFECTS).map(([effect, { description, possible, operations, members }]) => [
        `\`${effect}\``,
        described(description),
        possible.join(', '),
        operations.length === possible.length ? 'all of them' : operations.join(', '),
        members.map((member) => `\`${member}\``).join(', '),
      ]),
    ),
}

/** The document with the tables of now between its marks. */
export function withFaultTables(document: string): string {
  let text = document
  for (const [name, print] of Object.entries(TABLES)) {
    const [begins, ends] = [`<!-- ${name}: written by npm run docs -->\n`, `<!-- end of ${name} -->`]
    const [head, rest = ''] = text.split(begins)
    const [, tail] = rest.split(ends)
    if (head === undefined || tail === undefined) throw new Error(`docs/FAULTS.md has no '${begins}' and '${ends}'`)
    text = `${head}${begins}\n${print()}\n${ends}${tail}`
  }
  return text
}

const rowsOf = (members: QmpMembers, prefix = ''): string[][] =>
  Object.entries(members).map(([name, member]) => [`\`${prefix}${name}\``, typeOf(member), meaningOf(member)])

const typeOf = (member: QmpMember): string =>
  member.kind === 'array' ? `list of ${member.of.kind}` : member.kind === 'any' ? 'see there' : member.kind

function meaningOf(member: QmpMember): string {
  const type = member.kind === 'array' ? member.of : member
  const values = type.kind === 'enum' ? `${type.values.map((value) => `\`${value}\``).join(', ')}; ` : ''
  return values + described(member.description ?? '')
}

/** A cell of a Markdown table. */
const described = (text: string): string => text.replaceAll('|', '\\|').replaceAll('*', '\\*')

/** As prettier aligns it. */
function table(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map((column, n) => Math.max(column.length, ...rows.map((row) => row[n]?.length ?? 0)))
  const line = (cells: readonly string[], fill = ' '): string =>
    `| ${cells.map((cell, n) => cell.padEnd(widths[n] ?? 0, fill)).join(' | ')} |\n`
  return [
    line(columns),
    line(
      columns.map(() => ''),
      '-',
    ),
    ...rows.map((row) => line(row)),
  ].join('')
}
