/** `nbd-remap console`: QEMU, its storage daemon and nbd-remap at one prompt, or from a script. */
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { Command, Option } from 'commander'
import { fileProblem, UsageError, writingProblem } from '../util/errors.js'
import type { History, Print, Recorder, ScriptLine, Session, Target, TargetListener } from '../../qemu/console/index.js'
import { TOKEN_VARIABLE } from './ask.js'
import { EXIT } from './exit.js'
import { jsonOption, parseSeconds } from './options.js'

interface ConsoleOptions {
  readonly command?: readonly string[]
  readonly script?: string
  readonly keepGoing?: boolean
  readonly echo?: boolean
  readonly json?: boolean
  readonly events?: string
  readonly record?: string
  readonly reconnect?: boolean
  readonly timeout?: number
}

/** Of a script: one that hangs for ever helps nobody. At a terminal there is Ctrl-C. */
const SCRIPT_TIMEOUT_MS = 60_000

export const consoleCommand = (): Command =>
  new Command('console')
    .description(
      'Give commands to QEMU, its storage daemon and nbd-remap at one prompt, with completion, history and events; or run a script of them.',
    )
    .argument(
      '<address...>',
      'of a QMP socket: its path, HOST:PORT or ws://HOST:PORT/qmp; NAME= before it gives it a name',
    )
    .addOption(
      new Option('-c, --command <line>', 'run this line and leave; may be given several times').argParser(
        (line: string, before: readonly string[] | undefined) => [...(before ?? []), line],
      ),
    )
    .option('--script <file>', 'run the lines of this file and leave; - is standard input')
    .option('--keep-going', 'a script goes on after a line that failed')
    .option('--echo', 'a script shows each line before its result')
    .addOption(jsonOption())
    .option(
      '--events <patterns>',
      'show these events: on, off, or patterns as in BLOCK_JOB_*,qemu:STOP (default: on at a terminal)',
    )
    .option('--record <file>', 'write what is done to a new file, which --script can run again')
    .option('--reconnect', 'wait for servers that are not there, and dial again when a connection is lost')
    .option('--timeout <seconds>', 'for each reply (default: 60 in a script, none at a terminal)', parseSeconds)
    .addHelpText(
      'after',
      `
Targets are called qemu, qsd and nbd-remap by what answers. A line is COMMAND key=value ..., with dotted keys, or JSON;
@NAME before it sends it to another target. Tab completes, Ctrl-R searches the history, help shows everything else.
Without a terminal the lines are read from standard input, and the first that fails ends the script. --json prints one
object a line: what was returned, the error, or an event. ${TOKEN_VARIABLE} has the token of a WebSocket.

Exit codes: 0 all lines succeeded or the user left, 1 a line failed or a server could not be reached, 2 wrong usage.

Example:
  nbd-remap console qemu.qmp /run/disk.qmp
  nbd-remap console vm1=vm1.qmp -c query-status --json
  echo 'query-named-block-nodes flat=true' | nbd-remap console qemu.qmp`,
    )
    .action(run)

type Parts = typeof import('../../qemu/console/index.js')

async function run(addresses: readonly string[], options: ConsoleOptions): Promise<void> {
  if (options.command !== undefined && options.script !== undefined)
    throw new UsageError('either --command or --script: which lines shall be run?')
  const parts = await import('../../qemu/console/index.js')
  const isTerminal = process.stdin.isTTY && process.stdout.isTTY
  const isScript = options.command !== undefined || options.script !== undefined || !isTerminal
  const console = new Console(parts, addresses, options)
  process.exitCode = await (isScript ? console.script() : console.converse())
}

class Console {
  readonly #parts: Parts
  readonly #addresses: readonly string[]
  readonly #options: ConsoleOptions
  /** Of the script. */
  #where = ''

  constructor(parts: Parts, addresses: readonly string[], options: ConsoleOptions) {
    this.#parts = parts
    this.#addresses = addresses
    this.#options = options
  }

  /** @returns the exit code */
  async converse(): Promise<number> {
    const { HistoryFile, historyPath, ConsoleTerminal, converse, unclosedIn } = this.#parts
    const { stdin: input, stdout: output } = process
    let print: Print = (text) => output.write(`${text}\n`)
    const tell: Print = (text) => {
      print(text)
    }
    const file = HistoryFile.open(historyPath(), tell)
    const style = { colour: !process.env['NO_COLOR'] && output.getColorDepth() > 1 }
    const session = await this.#open(file.history, { print: tell, complain: tell, ...style, tolerant: true })
    const { history } = file
    const terminal = new ConsoleTerminal({
      input,
      output,
      history,
      complete: (line) => session.complete(line),
      isOpen: (line) => unclosedIn(line) !== undefined,
    })
    print = (text) => {
      terminal.print(text)
    }
    try {
      for (const { name, address, away, description } of session.targets)
        if (away === undefined) print(`${name}: ${description} at ${address}`)
      print('Tab completes, Ctrl-R searches the history, help shows what there is.')
      await converse(session, terminal, file)
    } finally {
      terminal.close()
      await session.close()
    }
    return EXIT.done
  }

  /** @returns the exit code */
  async script(): Promise<number> {
    const { History, runScript } = this.#parts
    const { json, keepGoing = false, echo } = this.#options
    const lines = await this.#lines()
    const print: Print = (text) => process.stdout.write(`${text}\n`)
    const complain: Print = (text) => process.stderr.write(`nbd-remap: ${this.#where}${text}\n`)
    const session = await this.#open(new History(), { print, complain, colour: false, tolerant: false })
    const starting = ({ where, text }: ScriptLine): void => {
      this.#where = where === '' ? '' : `${where}: `
      if (echo) print(`${session.prompt}${text}`)
    }
    try {
      const failed = await runScript(session, lines, { keepGoing, starting })
      if (failed > 0 && json) complain(`${failed === 1 ? 'a line' : `${failed} lines`} failed: see standard output`)
      return failed === 0 ? EXIT.done : EXIT.failed
    } finally {
      await session.close()
    }
  }

  async #lines(): Promise<AsyncIterable<ScriptLine>> {
    const { scriptLines } = this.#parts
    const { command, script } = this.#options
    if (command !== undefined) return each(command.map((text) => ({ where: '', text })))
    if (script === undefined || script === '-') return scriptLines(standardInput(), 'line ')
    const text = await readFile(script, 'utf8').catch((error: unknown) => {
      throw new UsageError(`--script ${script}: ${fileProblem(error)}`, { cause: error })
    })
    return scriptLines(text.split(/\r?\n/), `${script}:`)
  }

  async #open(history: History, how: Appearance): Promise<Session> {
    const { connectTargets, EventPatterns, JsonOutput, parseTarget, PrettyOutput, Recorder, Session } = this.#parts
    const { json, record, events = how.tolerant ? 'on' : 'off', reconnect = false, timeout } = this.#options
    const token = process.env[TOKEN_VARIABLE]
    const given = this.#addresses.map((text) => parseTarget(text, token))
    const columns = (): number => process.stdout.columns || 80
    const limitMs = how.tolerant ? Infinity : SCRIPT_TIMEOUT_MS
    const timeoutMs = timeout === undefined ? limitMs : timeout * 1000
    const opened: { session?: Session } = {}
    const targets = await connectTargets(given, listenerFor(opened), {
      redial: reconnect,
      timeoutMs,
      tolerant: how.tolerant,
      signal: new AbortController().signal,
      note: how.complain,
    })
    // Not before, or a server that is not there would leave an empty file.
    const recorder = await openRecorder(record, Recorder, targets)
    opened.session = new Session(targets, {
      outputs: {
        pretty: new PrettyOutput(how.print, how.complain, () => ({ colour: how.colour, columns: columns() })),
        json: new JsonOutput(how.print, how.complain),
      },
      output: json ? 'json' : 'pretty',
      events: new EventPatterns(events.split(/[,\s]+/).filter((word) => word !== '')),
      history,
      recorder,
      waitMs: timeoutMs,
      columns,
    })
    return opened.session
  }
}

interface Appearance {
  readonly print: Print
  readonly complain: Print
  readonly colour: boolean
  /** At a terminal somebody can reconnect what is away. */
  readonly tolerant: boolean
}

const listenerFor = (opened: { readonly session?: Session }): TargetListener => ({
  event: ({ name }, event) => {
    const { session } = opened
    if (session?.events.matches(name, event.event)) session.out.event(name, event)
  },
  lost: ({ name }, reason, redials) => {
    opened.session?.out.note(`${name}: ${reason}; ${redials ? 'dialling again' : `reconnect ${name} dials again`}`)
  },
  back: ({ name, description }) => {
    opened.session?.out.note(`${name}: connected again to ${description}`)
  },
})

async function openRecorder(
  path: string | undefined,
  Recorder: Parts['Recorder'],
  targets: readonly Target[],
): Promise<Recorder | undefined> {
  try {
    return path === undefined ? undefined : new Recorder(path)
  } catch (error) {
    await Promise.all(targets.map((target) => target.close()))
    throw new UsageError(`--record ${path ?? ''}: ${writingProblem(error)}`, { cause: error })
  }
}

/** Read only when the first line is wanted: what an interface reads before that is lost. */
async function* standardInput(): AsyncGenerator<string> {
  yield* createInterface({ input: process.stdin, crlfDelay: Infinity })
}

async function* each<T>(items: Iterable<T>): AsyncGenerator<T> {
  for (const item of items) yield await Promise.resolve(item)
}
