/**
 * What somebody sees on a terminal after a program wrote `output`: as many of its rows as were ever used, the cursor, and no
 * more control sequences than the console writes. Others are an error, for they would be shown wrong here.
 */

export interface Screen {
  /** Without trailing spaces. */
  readonly rows: readonly string[]
  readonly cursor: { readonly row: number; readonly column: number }
}

const TOKEN = /\u001b\[(\??)([\d;]*)([A-Za-z])|[\r\n]|[^\u001b]/gu

export function screenAfter(output: string, columns: number): Screen {
  const rows: string[][] = [[]]
  let row = 0
  let column = 0
  const erase = (from: number): void => {
    rows.length = from + 1
  }
  const put = (char: string): void => {
    if (column === columns) {
      row++
      column = 0
    }
    while (rows.length <= row) rows.push([])
    const line = rows[row] ?? []
    while (line.length < column) line.push(' ')
    line[column++] = char
  }
  const control = (mark: string, digits: string, letter: string): void => {
    const count = Number(digits === '' ? '1' : digits)
    if (mark === '?' || letter === 'm') return
    if (letter === 'A') row = Math.max(0, row - count)
    else if (letter === 'C') column = Math.min(columns - 1, column + count)
    else if (letter === 'H') row = column = 0
    else if (letter === 'J') {
      if (digits === '2') rows.splice(0, rows.length, [])
      else {
        rows[row]?.splice(column)
        erase(row)
      }
    } else throw new Error(`the screen does not know ESC [ ${mark}${digits}${letter}`)
  }
  for (const [token, mark = '', digits = '', letter] of output.matchAll(TOKEN)) {
    if (letter !== undefined) control(mark, digits, letter)
    else if (token === '\r') column = 0
    else if (token === '\n') {
      row++
      while (rows.length <= row) rows.push([])
    } else put(token)
  }
  return { rows: rows.map((line) => line.join('').trimEnd()), cursor: { row, column } }
}
