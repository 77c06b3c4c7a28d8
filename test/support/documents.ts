/** The project's Markdown as data: its tables and code blocks, so that tests can hold them against the program. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../../src/cli/package-version.js'

export const ROOT = packageRoot()

export interface Table {
  /** The heading that the table stands under, without its hashes and backticks. */
  readonly heading: string
  /** The names of the columns. */
  readonly columns: readonly string[]
  /** Cells without the backticks around a whole cell. */
  readonly rows: readonly (readonly string[])[]
}

export interface CodeBlock {
  readonly heading: string
  /** What stands behind the opening fence. */
  readonly language: string
  readonly text: string
}

export class Document {
  readonly text: string
  readonly tables: readonly Table[]
  readonly blocks: readonly CodeBlock[]

  /** @param path below the root of the repository */
  constructor(readonly path: string) {
    this.text = readFileSync(join(ROOT, path), 'utf8')
    const parts = parse(this.text.split('\n'))
    this.tables = parts.tables
    this.blocks = parts.blocks
  }

  /** The tables under `heading` whose first column has this name. */
  table(heading: string, firstColumn: string): Table {
    const found = this.tables.find((table) => table.heading === heading && table.columns[0] === firstColumn)
    if (!found) throw new Error(`${this.path} has no table of '${firstColumn}' under '${heading}'`)
    return found
  }

  /** Everything from `heading` to the next one, code and tables too. */
  section(heading: string): string {
    const lines = this.text.split('\n')
    const start = lines.findIndex((line) => headingOf(line) === heading)
    if (start < 0) throw new Error(`${this.path} has no heading '${heading}'`)
    const length = lines.slice(start + 1).findIndex((line) => headingOf(line) !== undefined)
    return lines.slice(start, length < 0 ? undefined : start + 1 + length).join('\n')
  }
}

/** All names in backticks. */
export const namesIn = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name)

const headingOf = (line: string): string | undefined => /^#+ (.*)$/.exec(line)?.[1]?.replaceAll('`', '')

const cellsOf = (line: string): string[] =>
  line
    .split('|')
    .slice(1, -1)
    .map((cell) =>
      cell
        .trim()
        .replace(/^`([^`]*)`$/, '$1')
        .replaceAll('\\*', '*'),
    )

function parse(lines: readonly string[]): { tables: Table[]; blocks: CodeBlock[] } {
  const tables: Table[] = []
  const blocks: CodeBlock[] = []
  let heading = ''
  for (let n = 0; n < lines.length; n++) {
    const line = lines[n] ?? ''
    if (line.startsWith('```')) {
      const end = lines.indexOf('```', n + 1)
      blocks.push({ heading, language: line.slice(3), text: `${lines.slice(n + 1, end).join('\n')}\n` })
      n = end
    } else if (line.startsWith('|')) {
      const length = lines.slice(n).findIndex((other) => !other.startsWith('|'))
      const [columns = [], , ...rows] = lines.slice(n, length < 0 ? undefined : n + length).map(cellsOf)
      tables.push({ heading, columns, rows })
      n += (length < 0 ? lines.length - n : length) - 1
    } else {
      heading = headingOf(line) ?? heading
    }
  }
  return { tables, blocks }
}
