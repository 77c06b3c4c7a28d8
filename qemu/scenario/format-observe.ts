/** The part of the format that looks at things and says what is expected: commands, queries, files, workloads. */
import { duration, name, pattern } from './quantity.js'
import {
  byDefault,
  choice,
  described,
  integer,
  json,
  list,
  number,
  object,
  optional,
  record,
  short,
  text,
  where,
  word,
  type InOf,
  type OutOf,
  type Shape,
} from './shape.js'

export const matcher = short(
  object({
    equals: optional(json),
    not: described('Anything but this.', optional(json)),
    atLeast: optional(number),
    atMost: optional(number),
    matches: optional(pattern),
    contains: described('A part of a text, or an entry of a list.', optional(json)),
  }),
  json,
  (value) => ({ equals: value }),
)

export const expectations = described(
  'What is expected, by path: `remaps`, `clients.0.name`, `remaps.length`; `.` is the whole.',
  record(matcher),
)

const STATUS_TIMEOUT_MS = 60_000

const status = described(
  'The exit status; `any` when it does not matter.',
  byDefault<number | 'any', number | 'any'>(
    {
      schema: { anyOf: [{ type: 'integer' }, { const: 'any' }] },
      read: (value, at) => (value === 'any' ? value : integer(0, 255).read(value, at)),
    },
    0,
  ),
)

export const guestCommand = described(
  'A shell command in a guest.',
  short(
    object({
      run: text,
      in: described('Name of the machine; not needed when there is one.', optional(name)),
      status,
      stdout: described('What standard output has to contain.', optional(pattern)),
      stderr: optional(pattern),
      within: byDefault(duration, STATUS_TIMEOUT_MS),
    }),
    text,
    (run) => ({ run }),
  ),
)

export const qmpCommand = described(
  'A QMP command to a server, a machine, or the storage daemon of a disk.',
  where(
    object({
      to: described('Name of a server, a machine, or a disk that a storage daemon serves.', byDefault(name, 'server')),
      execute: text,
      arguments: optional(record(json)),
      expect: optional(expectations),
      error: described('It has to fail with this.', optional(pattern)),
      within: byDefault(duration, STATUS_TIMEOUT_MS),
    }),
    ({ expect, error }) =>
      expect !== undefined && error !== undefined ? "'expect' and 'error' exclude each other" : undefined,
  ),
)

export const cliCommand = described(
  'An nbd-remap command: the words after `nbd-remap`.',
  short(
    object({
      run: list(word, 1),
      input: described('Its standard input.', optional(text)),
      status,
      stdout: optional(pattern),
      stderr: optional(pattern),
      expect: described('Of what it prints as JSON.', optional(expectations)),
      within: byDefault(duration, STATUS_TIMEOUT_MS),
    }),
    list(word, 1),
    (run) => ({ run }),
    (value) => Array.isArray(value),
  ),
)

export const fioRun = described(
  'Runs fio on the host, over NBD, until it is done. It has to succeed.',
  object({
    on: described('Name of a server, or of a disk behind a storage daemon.', name),
    options: described('Options of fio, such as `rw: randwrite`, `size: 16M`, `verify: crc32c`.', record(word)),
    expect: described('Of its output as JSON: `jobs.0.write.iops`.', optional(expectations)),
    within: byDefault(duration, STATUS_TIMEOUT_MS),
  }),
)

export const fileState = described(
  'The image of a disk: `size`, `allocated` (bytes), `sha256`.',
  object({ disk: name, expect: expectations }),
)

export const workloadState = described(
  'What a workload has done: `writes` that succeeded, `failures`, `attempts` (both), `longest-gap` (ms), `running`.',
  object({ name, expect: expectations }),
)

const observationFields = {
  guest: optional(guestCommand),
  qmp: optional(qmpCommand),
  cli: optional(cliCommand),
  file: optional(fileState),
  workload: optional(workloadState),
} as const

const one = <Out, In>(shape: Shape<Out, In>): Shape<Out, In> =>
  where(shape, (value) => {
    const looks = Object.keys(observationFields).filter((key) => (value as Record<string, unknown>)[key] !== undefined)
    return looks.length === 1 ? undefined : `must look at one of ${Object.keys(observationFields).join(', ')}`
  })

export const assertion = described('Something that has to be so now.', one(object(observationFields)))

export const condition = described(
  'Waits until something is so.',
  one(object({ ...observationFields, within: byDefault(duration, STATUS_TIMEOUT_MS) })),
)

export const eventWait = described(
  'Waits for an event that came, or comes, after the last step that did something had begun.',
  short(
    object({
      event: text,
      from: described('Name of the server, machine or disk; from anywhere when not given.', optional(name)),
      data: described('What the data of the event must be.', optional(expectations)),
      since: byDefault(choice('last-step', 'start'), 'last-step'),
      within: byDefault(duration, STATUS_TIMEOUT_MS),
    }),
    text,
    (event) => ({ event }),
  ),
)

export type Matcher = OutOf<typeof matcher>
export type Expectations = OutOf<typeof expectations>
export type GuestCommand = OutOf<typeof guestCommand>
export type QmpCommand = OutOf<typeof qmpCommand>
export type FioRun = OutOf<typeof fioRun>
export type CliCommand = OutOf<typeof cliCommand>
export type Observation = OutOf<typeof assertion>
export type ObservationInput = InOf<typeof assertion>
export type Condition = OutOf<typeof condition>
export type ConditionInput = InOf<typeof condition>
export type EventWaitInput = InOf<typeof eventWait>
