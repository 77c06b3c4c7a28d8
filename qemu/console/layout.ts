/** Where a prompt and a line stand on a terminal that breaks lines at its last column. Pure: control sequences are the caller's. */
import { graphemesOf, graphemeWidth } from './text-width.js'

export interface Layout {
  /** One a row, each no wider than the terminal. */
  readonly rows: readonly string[]
  readonly cursorRow: number
  readonly cursorColumn: number
}

/** @param cursor in UTF-16 units of `text`. Newlines in `text` begin rows. */
export function layoutOf(prompt: string, text: string, cursor: number, columns: number): Layout {
  const rows: string[] = []
  let row = ''
  let column = 0
  let cursorAt = { row: 0, column: 0 }
  const breakRow = (): void => {
    rows.push(row)
    row = ''
    column = 0
  }
  const put = (grapheme: string): void => {
    const width = graphemeWidth(grapheme)
    if (column + width > columns) breakRow()
    row += grapheme
    column += width
  }
  for (const grapheme of graphemesOf(prompt)) put(grapheme)
  let position = 0
  for (const grapheme of [...graphemesOf(text), '']) {
    // The cursor cannot stand behind the last column.
    if (column >= columns) breakRow()
    if (position <= cursor) cursorAt = { row: rows.length, column }
    position += grapheme.length
    if (grapheme === '\n') breakRow()
    else if (grapheme !== '') put(grapheme)
  }
  rows.push(row)
  return { rows, cursorRow: cursorAt.row, cursorColumn: cursorAt.column }
}
