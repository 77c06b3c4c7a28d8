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
  GuestCommand,
  Observation,
  QmpCommand,
} from '../scenario/format-observe.js'
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
  const result = await spawned([observed.program, ...words], command, signal)
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

async function spawned(args: readonly string[], command: CliCommand, signal: AbortSignal): Promise<CommandResult> {
  const late = AbortSignal.any([signal, AbortSignal.timeout(command.within)])
  const child = spawn(process.execPath, args, { stdio: 'pipe', signal: late, killSignal: 'SIGKILL' })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', (data: Buffer) => (output.stdout += data.toString()))
  child.stderr.on('data', (data: Buffer) => (output.stderr += data.toString()))
  child.stdin.on('error', () => undefined).end(command.input ?? '')
  return new Promise((resolve, reject) => {
    child.on('error', (error) => {
      const why = signal.aborted
        ? 'the lab was closed'
        : late.aborted
          ? `it did not end within ${command.within} ms`
          : error.message
      reject(new ExpectationError(`nbd-remap ${args.slice(1).join(' ')}: ${why}\n${output.stderr}`.trimEnd()))
    })
    child.on('close', (code) => {
      resolve({ status: code ?? 255, ...output })
    })
  })
}

const firstLine = (text: string): string => {
  const [line = '', ...more] = text.trim().split('\n')
  return more.length === 0 ? line : `${line} ...`
}

function judge(what: string, { status, stdout, stderr }: GuestCommand | CliCommand, result: CommandResult): void {
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
