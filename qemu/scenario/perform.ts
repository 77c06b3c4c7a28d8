/**
 * Carries out the steps of a scenario on a lab. A step that does not go as it should ends the run; in a control run one that
 * ends with a wrong result is a finding, and the steps go on.
 */
import { messageOf } from '../../src/util/errors.js'
import { formatBytes } from '../../src/util/units.js'
import { ExpectationError } from '../lab/error.js'
import type { Moment } from '../lab/events.js'
import type { Lab } from '../lab/lab.js'
import type { Step, StepOf } from './format.js'
import { kebab } from './shape.js'

/** A step did not go as it should. */
export class StepError extends Error {
  override name = 'StepError'
  constructor(
    readonly step: Step,
    /** `file:line:column` */
    readonly where: string,
    override readonly cause: unknown,
  ) {
    super(`${where}: step '${kebab(step.verb)}': ${messageOf(cause)}`)
  }
}

export interface Performance {
  readonly lab: Lab
  readonly control: boolean
  readonly where: (step: Step) => string
  /** Called for a step of a control run that failed. */
  readonly onFinding: (step: Step, error: StepError) => void
  /** By name, when they began, in milliseconds on the lab's timeline. */
  readonly begun: Map<string, number>
  readonly background: Map<string, Promise<void>>
  /** Ends the steps of all branches, when one has failed. */
  readonly ended: AbortController
}

/** One line of steps, one after the other: each has its own "last step" for events. */
interface Branch {
  moment: Moment
}

/** @throws StepError for the first step that fails */
export async function perform(performance: Performance, steps: readonly Step[]): Promise<void> {
  try {
    await branch(performance, steps, { moment: performance.lab.events.now })
    await Promise.all(performance.background.values())
  } catch (error) {
    performance.ended.abort(error)
    await Promise.allSettled(performance.background.values())
    throw error
  }
}

async function branch(performance: Performance, steps: readonly Step[], at: Branch): Promise<void> {
  for (const step of steps) {
    if (performance.ended.signal.aborted) return
    if (isLeftOut(performance, step)) continue
    await one(performance, step, at)
  }
}

/** Steps that concern a server which the control run does not have are no steps there. */
function isLeftOut({ control, lab }: Performance, step: Step): boolean {
  if (step.only !== undefined) return (step.only === 'control') !== control
  return control && concerns(step).some((name) => !lab.knows(name))
}

function concerns(step: Step): readonly string[] {
  switch (step.verb) {
    case 'fault':
    case 'fio':
      return [step.value.on]
    case 'kill':
    case 'limitMemory':
      return [step.value.what]
    case 'clear':
    case 'stop':
    case 'cont':
    case 'quit':
      return [step.value]
    case 'start':
    case 'powerCut':
      return step.value
    case 'qmp':
      return [step.value.to]
    case 'until':
    case 'assert':
      return step.value.qmp === undefined ? [] : [step.value.qmp.to]
    case 'event':
      return step.value.from === undefined ? [] : [step.value.from]
    default:
      return []
  }
}

const WAITING: ReadonlySet<Step['verb']> = new Set(['until', 'assert', 'event', 'check', 'moment', 'note', 'join'])

async function one(performance: Performance, step: Step, at: Branch): Promise<void> {
  const { lab, begun, control, onFinding } = performance
  if (step.name !== undefined && !begun.has(step.name)) begun.set(step.name, lab.timeline.now())
  if (!WAITING.has(step.verb)) at.moment = lab.events.now
  try {
    if (isNesting(step)) await nest(performance, step, at)
    else await lab.timeline.during('step', titleOf(step), () => orEnded(performance, step, act(performance, step, at)))
  } catch (cause) {
    if (cause instanceof StepError) throw cause
    const error = new StepError(step, performance.where(step), cause)
    if (!control || !(cause instanceof ExpectationError)) throw error
    onFinding(step, error)
  }
}

/** Waits are called off when another branch has failed; what changes something is awaited. */
async function orEnded({ ended: { signal } }: Performance, step: Step, done: Promise<void>): Promise<void> {
  if (!WAITING.has(step.verb)) return done
  let end: (() => void) | undefined
  const ended = new Promise<never>((_, reject) => {
    end = () => {
      reject(signal.reason as Error)
    }
    signal.addEventListener('abort', end)
  })
  try {
    await Promise.race([done, ended])
  } finally {
    if (end !== undefined) signal.removeEventListener('abort', end)
    done.catch(() => undefined)
  }
}

type Nesting = StepOf<'parallel' | 'background' | 'repeat'>
type Plain = Exclude<Step, Nesting>
const isNesting = (step: Step): step is Nesting => ['parallel', 'background', 'repeat'].includes(step.verb)

async function nest(performance: Performance, step: Nesting, at: Branch): Promise<void> {
  switch (step.verb) {
    case 'parallel':
      await all(
        performance,
        step.value.map((steps) => branch(performance, steps, { moment: at.moment })),
      )
      return
    case 'background':
      performance.background.set(
        step.value.name,
        all(performance, [branch(performance, step.value.steps, { moment: at.moment })]),
      )
      return
    case 'repeat': {
      const { times = Infinity, for: time = Infinity, steps } = step.value
      const endMs = performance.lab.timeline.now() + time
      for (let n = 0; n < times && (n === 0 || performance.lab.timeline.now() < endMs); n++)
        await branch(performance, steps, at)
    }
  }
}

/** When one fails, the others are told, and awaited. */
async function all(performance: Performance, branches: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(
    branches.map((it) =>
      it.catch((error: unknown) => {
        performance.ended.abort(error)
        throw error
      }),
    ),
  )
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

async function act(performance: Performance, step: Plain, at: Branch): Promise<void> {
  const { lab, background } = performance
  const label = step.path.join('.')
  switch (step.verb) {
    case 'guest':
      await lab.guestCommand(step.value)
      return
    case 'workload':
      lab.startWorkload(step.value)
      return
    case 'finish':
      await lab.finish(step.value)
      return
    case 'fault':
      await lab.fault(step.value, label)
      return
    case 'clear':
      return lab.clear(step.value)
    case 'kill':
      return lab.kill(step.value)
    case 'limitMemory':
      return lab.limitMemory(step.value)
    case 'stop':
      return lab.stop(step.value)
    case 'cont':
      return lab.cont(step.value)
    case 'start':
      return lab.start(...step.value)
    case 'quit':
      return lab.quit(step.value)
    case 'powerCut':
      return lab.powerCut(...step.value)
    case 'qmp':
      await lab.qmp(step.value)
      return
    case 'cli':
      await lab.cli(step.value)
      return
    case 'fio':
      await lab.fio(step.value)
      return
    case 'copy':
      return lab.copy(step.value.from, step.value.to)
    case 'damage':
      return lab.damage(step.value, label)
    case 'until':
      return lab.until(step.value)
    case 'assert':
      await lab.assert(step.value)
      lab.timeline.check(step.name ?? titleOf(step), true)
      return
    case 'event':
      await lab.waitForEvent(step.value, at.moment)
      return
    case 'check': {
      const { ok, name, detail } = await lab.checkNow(step.value)
      if (!ok) throw new ExpectationError(`not so: ${name}: ${detail}`)
      return
    }
    case 'moment':
      return lab.moment(step.value, label)
    case 'note':
      lab.timeline.mark('note', lab.fill(step.value))
      return
    case 'join':
      await background.get(step.value)
      background.delete(step.value)
  }
}

const TITLE_MAX = 100

/** What it does, in a line. */
export function titleOf(step: Step): string {
  if (step.name !== undefined) return step.name
  const text = `${kebab(step.verb)} ${summary(step)}`.trimEnd().replaceAll(/\s+/g, ' ')
  return text.length > TITLE_MAX ? `${text.slice(0, TITLE_MAX)}...` : text
}

function summary(step: Step): string {
  switch (step.verb) {
    case 'guest':
      return step.value.run.trim()
    case 'workload':
      return `${step.value.name}: ${step.value.kind} in ${step.value.target}`
    case 'fault':
      return `on ${step.value.on}: ${ruleSummary(step.value.rule)}`
    case 'kill':
      return `${step.value.what}${step.value.part === 'worker' ? "'s worker" : ''}`
    case 'limitMemory':
      return `${step.value.what}: ${formatBytes(step.value.more)} more`
    case 'start':
    case 'powerCut':
      return step.value.join(', ')
    case 'qmp':
      return `${step.value.execute} to ${step.value.to}`
    case 'cli':
      return `nbd-remap ${step.value.run.join(' ')}`
    case 'fio':
      return `on ${step.value.on}: ${ruleSummary(step.value.options)}`
    case 'copy':
      return `${step.value.from} to ${step.value.to}`
    case 'damage':
      return step.value.disk
    case 'until':
    case 'assert':
      return observationSummary(step.value)
    case 'event':
      return step.value.event
    case 'parallel':
    case 'repeat':
      return ''
    case 'background':
      return step.value.name
    default:
      return String(step.value)
  }
}

const ruleSummary = (rule: object): string =>
  Object.entries(rule)
    .map(([key, value]) => `${key} ${String(value)}`)
    .join(', ')

function observationSummary({ guest, qmp, cli, file, workload }: StepOf<'assert'>['value']): string {
  if (guest !== undefined) return guest.run.trim()
  if (qmp !== undefined) return `${qmp.execute} to ${qmp.to}: ${wanted(qmp.expect)}`
  if (cli !== undefined) return `nbd-remap ${cli.run.join(' ')}`
  if (file !== undefined) return `image of ${file.disk}: ${wanted(file.expect)}`
  return `workload ${workload?.name ?? ''}: ${wanted(workload?.expect)}`
}

const wanted = (expect: object | undefined): string =>
  Object.entries(expect ?? {})
    .map(
      ([path, matcher]) =>
        `${path} ${Object.entries(matcher as object)
          .filter(([, value]) => value !== undefined)
          .map(
            ([key, value]) =>
              `${key === 'equals' ? 'is' : kebab(key).replaceAll('-', ' ')} ${value instanceof RegExp ? String(value) : JSON.stringify(value)}`,
          )
          .join(' and ')}`,
    )
    .join(', ')
