/** Looks at things, and throws an `ExpectationError` when they are not as they should be. */
import { spawn } from 'node:child_process'
import { setTimeout as pause } from 'node:timers/promises'
import { QmpCommandError } from '../../src/qmp/index.js'
import { messageOf } from '../../src/util/errors.js'
import { mismatches, shown } from '../scenario/expectation.js'
import type {
  CliCommand,
  Condition,
  Expectations,
  FioRun,
  GuestCommand,
  Observation,
  QmpCommand,
} from '../scenario/format-observe.js'
import { findProgram } from '../program.js'
import { ExpectationError, LabError } from './error.js'
import type { LabMachine } from './lab-machine.js'

export interface CommandResult {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/** What there is to look at. */
export interface Observed {
  machine(name?: string): LabMachine
  execute(target: string, command: string, args: Readonly<Record<string, unknown>>, timeoutMs: number): Promise<unknown>
  program: string
  file(disk: string): Promise<unknown>
  workload(name: string): unknown
  fill<T>(value: T): T
}

const POLL_MS = 50

/** @throws ExpectationError */
function expect(what: string, expectations: Expectations | undefined, value: unknown): void {
  const wrong = mismatches(expectations ?? {}, value)
  if (wrong.length > 0) throw new ExpectationError(`${what}: ${wrong.join('; ')}`)
}

/** @throws ExpectationError, GuestConnectionError, GuestTimeoutError */
export async function runInGuest(observed: Observed, command: GuestCommand): Promise<CommandResult> {
  const run = observed.fill(command.run)
  const result = await observed.machine(command.in).run(run, { timeoutMs: command.within })
  judge(`the guest's command '${firstLine(run)}'`, command, result)
  return result
}

/** @throws ExpectationError */
export async function runProgram(observed: Observed, command: CliCommand, signal: AbortSignal): Promise<CommandResult> {
  const words = command.run.map((word) => observed.fill(word))
  const result = await spawned([process.execPath, observed.program, ...words], command, signal)
  const what = `nbd-remap ${words.join(' ')}`
  judge(what, command, result)
  if (command.expect !== undefined) expect(what, command.expect, parsed(what, result))
  return result
}

function parsed(what: string, { stdout }: CommandResult): unknown {
  try {
    return JSON.parse(stdout)
  } catch {
    throw new ExpectationError(`${what} did not print JSON (does it have --json?): ${shown(stdout)}`)
  }
}

interface Spawned {
  readonly within: number
  readonly input?: string
}

async function spawned(
  [program = '', ...args]: readonly string[],
  { within, input = '' }: Spawned,
  signal: AbortSignal,
): Promise<CommandResult> {
  const late = AbortSignal.any([signal, AbortSignal.timeout(within)])
  const child = spawn(program, args, { stdio: 'pipe', signal: late, killSignal: 'SIGKILL' })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', (data: Buffer) => (output.stdout += data.toString()))
  child.stderr.on('data', (data: Buffer) => (output.stderr += data.toString()))
  child.stdin.on('error', () => undefined).end(input)
  return new Promise((resolve, reject) => {
    let failure: Error | undefined
    child.on('error', (error) => (failure = error))
    // Not before it is gone: nothing of it may be left when the lab is closed.
    child.on('close', (code) => {
      const why = late.aborted ? `it did not end within ${within} ms` : failure?.message
      if (signal.aborted) reject(signal.reason as Error)
      else if (why === undefined) resolve({ status: code ?? 255, ...output })
      else reject(new ExpectationError(`${[program, ...args].join(' ')}: ${why}\n${output.stderr}`.trimEnd()))
    })
  })
}

/** @throws ExpectationError, ProgramNotFoundError */
export async function runFio(run: FioRun, uri: string, signal: AbortSignal): Promise<CommandResult> {
  const options = Object.entries(run.options).map(([name, value]) => `--${name}=${value}`)
  // Without --verify_state_save=0, fio that verifies leaves a file in the folder that this program was started in.
  const args = ['--name=scenario', '--ioengine=nbd', `--uri=${uri}`, '--output-format=json', '--verify_state_save=0']
  args.push(...options)
  const result = await spawned([findProgram('fio'), ...args], run, signal)
  const what = `fio ${options.join(' ')}`
  judge(what, { status: 0 }, result)
  if (run.expect !== undefined) expect(what, run.expect, parsed(what, result))
  return result
}

const firstLine = (text: string): string => {
  const [line = '', ...more] = text.trim().split('\n')
  return more.length === 0 ? line : `${line} ...`
}

function judge(
  what: string,
  { status, stdout, stderr }: Pick<GuestCommand, 'status' | 'stdout' | 'stderr'>,
  result: CommandResult,
): void {
  const said =
    [result.stderr, result.stdout].map((text) => text.trim()).find((text) => text !== '') ?? 'it printed nothing'
  if (status !== 'any' && result.status !== status)
    throw new ExpectationError(`${what} ended with status ${result.status} instead of ${status}: ${said}`)
  for (const [name, pattern, text] of [
    ['standard output', stdout, result.stdout],
    ['standard error', stderr, result.stderr],
  ] as const)
    if (pattern !== undefined && !pattern.test(text))
      throw new ExpectationError(`${what}: ${name} does not match ${String(pattern)}: ${shown(text)}`)
}

/** @throws ExpectationError, QmpError */
export async function runQmp(observed: Observed, command: QmpCommand): Promise<unknown> {
  const { to, execute, within, error: wanted } = command
  const what = `${execute} to ${to}`
  let answer: unknown
  try {
    answer = await observed.execute(to, execute, observed.fill(command.arguments ?? {}), within)
  } catch (error) {
    if (wanted === undefined || !(error instanceof QmpCommandError)) throw error
    if (wanted.test(error.message)) return undefined
    throw new ExpectationError(`${what} failed otherwise than expected: ${error.message}`)
  }
  if (wanted !== undefined) throw new ExpectationError(`${what} should have failed, and returned ${shown(answer)}`)
  expect(what, command.expect, answer)
  return answer
}

/** @throws ExpectationError when something is not as it should be, and whatever looking at it throws */
export async function observe(observed: Observed, it: Observation, signal: AbortSignal): Promise<void> {
  if (it.guest !== undefined) await runInGuest(observed, it.guest)
  else if (it.qmp !== undefined) await runQmp(observed, it.qmp)
  else if (it.cli !== undefined) await runProgram(observed, it.cli, signal)
  else if (it.file !== undefined)
    expect(`the image of ${it.file.disk}`, it.file.expect, await observed.file(it.file.disk))
  else if (it.workload !== undefined)
    expect(`the workload ${it.workload.name}`, it.workload.expect, observed.workload(it.workload.name))
}

/**
 * Looks again and again. That it cannot be looked at, as when a server is away, is "not yet".
 * @throws ExpectationError with what was seen last
 */
export async function observeUntil(observed: Observed, condition: Condition, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + condition.within
  for (;;) {
    try {
      await observe(observed, condition, signal)
      return
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof LabError) throw error
      if (performance.now() > deadline)
        throw new ExpectationError(`not so within ${condition.within} ms: ${messageOf(error)}`, { cause: error })
    }
    await pause(POLL_MS, undefined, { signal })
  }
}
