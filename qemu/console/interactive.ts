/** A session at a terminal: prompts, history, confirmation, and Ctrl-C for a command that takes too long. */
import { messageOf } from '../../src/util/errors.js'
import type { HistoryFile } from './history-file.js'
import type { Session } from './session.js'
import type { ConsoleTerminal } from './terminal.js'

/** Until the user leaves. */
export async function converse(session: Session, terminal: ConsoleTerminal, file: HistoryFile): Promise<void> {
  for (;;) {
    const typed = await terminal.readLine(() => session.prompt)
    if (typed === undefined) return
    let line: string
    try {
      line = file.history.expand(typed).trimEnd()
    } catch (error) {
      terminal.print(messageOf(error))
      continue
    }
    // What is run is seen, whatever !N stood for.
    if (line !== typed.trimEnd()) terminal.print(`${session.prompt}${line}`)
    file.add(line)
    if (!(await isMeant(session, terminal, line))) continue
    if ((await runInterruptibly(session, terminal, line)) === 'exit') return
  }
}

async function runInterruptibly(session: Session, terminal: ConsoleTerminal, line: string): ReturnType<Session['run']> {
  const interruption = new AbortController()
  terminal.onInterrupt = () => {
    interruption.abort()
  }
  try {
    return await session.run(line, interruption.signal)
  } finally {
    terminal.onInterrupt = () => undefined
  }
}

/** In most programs `quit` leaves the program; here it ends the machine. */
async function isMeant(session: Session, terminal: ConsoleTerminal, line: string): Promise<boolean> {
  const target = session.endsProgram(line)
  if (target === undefined) return true
  const question = `quit ends ${target.description} itself (exit leaves the console). End ${target.name}? [y/N] `
  const answer = await terminal.readLine(() => question)
  return answer !== undefined && /^y(?:es)?$/i.test(answer.trim())
}
