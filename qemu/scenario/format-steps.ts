/** The part of the format that says what happens: the verbs of steps. */
import { fault } from './format-faults.js'
import { assertion, cliCommand, condition, eventWait, fioRun, guestCommand, qmpCommand } from './format-observe.js'
import { duration, name, sectorRange, size } from './quantity.js'
import {
  byDefault,
  choice,
  described,
  flag,
  integer,
  lazy,
  list,
  object,
  optional,
  readFields,
  refuseUnknown,
  short,
  text,
  where,
  type FieldsIn,
  type FieldsOut,
  type InOf,
  type JsonSchema,
  type OutOf,
  type Path,
  type Shape,
} from './shape.js'

export const workload = described(
  'Writes in a guest, in the background, until it is finished.',
  object({
    name,
    kind: described(
      'files: files of random content, each written and fsynced. blocks: single blocks, each written past the page cache.',
      choice('files', 'blocks'),
    ),
    in: described('Name of the machine; not needed when there is one.', optional(name)),
    target: described('A folder of the guest for files; a device or a file for blocks.', byDefault(text, '/mnt')),
    size: described('Of a file, or of a block.', optional(size)),
    keep: described(
      'How many files or blocks there are; then the oldest is deleted, or written again.',
      byDefault(integer(1, 10_000), 64),
    ),
    at: described('Blocks: the first sector to write to.', byDefault(integer(), 0)),
    count: described('It ends by itself after so many writes.', optional(integer(1))),
  }),
)

const targets = short(
  list(name, 1),
  name,
  (it) => [it],
  (it) => !Array.isArray(it),
)

export const kill = described(
  'SIGKILL.',
  short(
    object({
      what: described('Name of a server, a machine, or a disk whose storage daemon it is.', name),
      part: described(
        'Of a supervised server: the worker, which is started again, or all of it.',
        byDefault(choice('worker', 'all'), 'all'),
      ),
      whileWriting: described(
        'Of a server: wait until it is written to. With `via: storage-daemon` requests are in flight then; a plain file is written to too fast for that.',
        byDefault(flag, false),
      ),
      within: described('How long to wait for that.', byDefault(duration, 60_000)),
    }),
    name,
    (what) => ({ what }),
  ),
)

export const limitMemory = described(
  'The host has no more memory for a server than its worker has now, and so much: what it asks for beyond is refused.',
  object({ what: described('Name of the server.', name), more: size }),
)

export const damage = described(
  "Overwrites sectors in the image of a disk, behind everybody's back.",
  object({
    disk: name,
    sectors: list(sectorRange, 1),
    with: byDefault(choice('random', 'zeros'), 'random'),
  }),
)

const steps = lazy<readonly StepOut[], readonly StepIn[]>('steps', () => list(step, 1))

const plainVerbs = {
  guest: guestCommand,
  workload,
  finish: described('Ends a workload after the write that it is at.', name),
  fault,
  clear: described('All faults of a disk, or those put into a server, are taken away.', name),
  kill,
  stop: described('SIGSTOP: it hangs. A server (its worker), a machine, or the storage daemon of a disk.', name),
  cont: described('SIGCONT: it goes on.', name),
  limitMemory,
  start: described('Starts what is not running: servers, machines, disks.', targets),
  quit: described('Ends it in good order.', name),
  powerCut: described('SIGKILL to all of them at once.', targets),
  qmp: qmpCommand,
  cli: cliCommand,
  fio: fioRun,
  copy: described('Copies the image of one disk over that of another.', object({ from: name, to: name })),
  damage,
  until: condition,
  assert: assertion,
  event: eventWait,
  check: described('One of the checks of the end, now.', choice('kernel-log', 'checksums', 'writes')),
  moment: described(
    'Waits for a moment drawn from the seed, within this time: so that what comes next falls anywhere.',
    duration,
  ),
  note: described('A remark in the report.', text),
  join: described('Waits for the steps that went to the background under this name.', name),
} as const

const nestingVerbs: {
  readonly parallel: Shape<readonly (readonly StepOut[])[], readonly (readonly StepIn[])[]>
  readonly background: Shape<Background<StepOut>, Background<StepIn>>
  readonly repeat: Shape<RepeatOut, RepeatIn>
} = {
  parallel: described('Lists of steps, side by side; it ends when all have.', list(steps, 1)),
  background: described('Steps that go on beside the following ones.', object({ name, steps })),
  repeat: described(
    'Steps again and again: so many times, or for so long.',
    where(object({ times: optional(integer(1)), for: optional(duration), steps }), ({ times, for: time }) =>
      (times === undefined) === (time === undefined) ? "needs either 'times' or 'for'" : undefined,
    ),
  ),
}

interface Background<S> {
  readonly name: string
  readonly steps: readonly S[]
}
interface RepeatOut {
  readonly times?: number
  readonly for?: number
  readonly steps: readonly StepOut[]
}
interface RepeatIn {
  readonly times?: number
  readonly for?: number | string
  readonly steps: readonly StepIn[]
}

export const verbs = { ...plainVerbs, ...nestingVerbs }
export type Verb = keyof typeof verbs

const common = {
  name: described('For messages, `measure` and `control`.', optional(text)),
  only: described('In the run itself or in its control run alone.', optional(choice('run', 'control'))),
} as const

type Plain = typeof plainVerbs
type Common = FieldsOut<typeof common> & { readonly path: Path }
type PlainOut = { [V in keyof Plain]: Common & { readonly verb: V; readonly value: OutOf<Plain[V]> } }[keyof Plain]
type PlainIn = { [V in keyof Plain]: FieldsIn<typeof common> & Readonly<Record<V, InOf<Plain[V]>>> }[keyof Plain]

export type StepOut =
  | PlainOut
  | (Common & { readonly verb: 'parallel'; readonly value: readonly (readonly StepOut[])[] })
  | (Common & { readonly verb: 'background'; readonly value: Background<StepOut> })
  | (Common & { readonly verb: 'repeat'; readonly value: RepeatOut })
export type StepIn =
  | PlainIn
  | (FieldsIn<typeof common> & { readonly parallel: readonly (readonly StepIn[])[] })
  | (FieldsIn<typeof common> & { readonly background: Background<StepIn> })
  | (FieldsIn<typeof common> & { readonly repeat: RepeatIn })

/** A mapping with exactly one verb. */
export const step: Shape<StepOut, StepIn> = {
  schema: { $ref: '#/$defs/step' },
  read: (value, at) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      return at.fail("must be a mapping with one verb, such as 'guest: sync'")
    const mapping = value as Record<string, unknown>
    const before = at.problemCount
    refuseUnknown(Object.keys(mapping), { ...verbs, ...common }, at)
    const given = (Object.keys(verbs) as Verb[]).filter((verb) => Object.hasOwn(mapping, at.spelled(verb)))
    const [verb] = given
    if (verb === undefined && at.problemCount > before) return undefined as unknown as StepOut
    if (verb === undefined)
      return at.fail(
        `does nothing: it needs one of ${Object.keys(verbs)
          .map((it) => at.spelled(it))
          .join(', ')}`,
      )
    if (given.length > 1) return at.fail(`must do one thing, not ${given.map((it) => at.spelled(it)).join(' and ')}`)
    const fields = readFields(mapping, { ...common, [verb]: verbs[verb] }, at) as Record<string, unknown>
    const { [verb]: read, ...rest } = fields
    return { ...rest, path: at.path, verb, value: read } as unknown as StepOut
  },
}

/** For `$defs` of the schema. */
export const stepDefinitions = (): Readonly<Record<string, JsonSchema>> => ({
  steps: { type: 'array', minItems: 1, items: { $ref: '#/$defs/step' } },
  step: stepSchema(),
})

function stepSchema(): JsonSchema {
  const names = (Object.keys(verbs) as Verb[]).map(
    (verb) => [verb.replaceAll(/[A-Z]/g, (it) => `-${it.toLowerCase()}`), verbs[verb].schema] as const,
  )
  return {
    type: 'object',
    properties: Object.fromEntries([
      ...Object.entries(common).map(([key, shape]) => [key, shape.schema] as const),
      ...names,
    ]),
    additionalProperties: false,
    oneOf: names.map(([name]) => ({ required: [name] })),
  }
}

export type Workload = OutOf<typeof workload>
export type WorkloadInput = InOf<typeof workload>
export type Kill = OutOf<typeof kill>
export type KillInput = InOf<typeof kill>
export type MemoryLimit = OutOf<typeof limitMemory>
export type Damage = OutOf<typeof damage>
