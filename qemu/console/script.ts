/** A session that reads its lines from a script: it ends at the first line that fails, unless told to go on. */
import { readCommandLine, unclosedIn } from './command-line.js'
import type { Session } from './session.js'

export interface ScriptLine {
  /** For messages: `up.console:3`; empty when there is only one. */
  readonly where: string
  readonly text: string
}

/** Lines that end within JSON or quotes, or with a backslash, go on in the next one. */
export async function* scriptLines(
  lines: AsyncIterable<string> | Iterable<string>,
  name: string,
): AsyncGenerator<ScriptLine> {
  let number = 0
  let first = 0
  let text = ''
  for await (const line of lines) {
    number++
    if (text === '') first = number
    const goesOn = line.endsWith('\\')
    text += goesOn ? `${line.slice(0, -1)} ` : line
    if (goesOn) continue
    if (unclosedIn(text) !== undefined) {
      text += '\n'
      continue
    }
    yield { where: `${name}${first}`, text }
    text = ''
  }
  if (text !== '') yield { where: `${name}${first}`, text }
}

export interface ScriptOptions {
  readonly keepGoing: boolean
  /** Before a line is run. */
  readonly starting: (line: ScriptLine) => void
}

/** @returns how many lines failed */
export async function runScript(
  session: Session,
  lines: AsyncIterable<ScriptLine>,
  options: ScriptOptions,
): Promise<number> {
  let failed = 0
  for await (const line of lines) {
    if (isComment(line.text)) continue
    options.starting(line)
    const outcome = await session.run(line.text)
    if (outcome === 'exit') return failed
    if (outcome === 'failed' && (++failed, !options.keepGoing)) return failed
  }
  return failed
}

function isComment(text: string): boolean {
  try {
    return readCommandLine(text).kind === 'nothing'
  } catch {
    return false
  }
}
