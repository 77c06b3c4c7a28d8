/** What the forms of lists have in common: lines, fields between blanks, comments from # on, numbers. */

/** A line that is not what it should be. */
export class ListError extends Error {
  override name = 'ListError'
  constructor(
    readonly line: number,
    problem: string,
  ) {
    super(`line ${line}: ${problem}`)
  }
}

export interface DataLine {
  /** Counted from 1. */
  readonly line: number
  readonly fields: readonly string[]
}

/** Lines that are neither empty nor a comment. */
export function* dataLines(text: string): Generator<DataLine> {
  let line = 0
  for (let at = 0; at < text.length; line++) {
    const found = text.indexOf('\n', at)
    const end = found < 0 ? text.length : found
    const content = text.slice(at, end).replace(/#.*/, '').trim()
    if (content !== '') yield { line: line + 1, fields: content.split(/\s+/) }
    at = end + 1
  }
}

/** @throws ListError when it is no whole number that can be told exactly */
export function wholeNumber(text: string, what: string, line: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : NaN
  if (Number.isSafeInteger(number)) return number
  const reason = /^\d+$/.test(text) ? 'is too large' : 'is not a whole number'
  throw new ListError(line, `${what} ${JSON.stringify(text.slice(0, 40))} ${reason}`)
}
