/** The part of the format that says what has to hold at the end, what is measured, and what fails in the control run. */
import { step } from './format-steps.js'
import { duration, name, pattern } from './quantity.js'
import {
  byDefault,
  choice,
  described,
  flag,
  json,
  list,
  number,
  object,
  optional,
  record,
  short,
  text,
  where,
  type OutOf,
  type Shape,
} from './shape.js'

export const checks = object({
  kernelLog: described(
    'The kernel log of every guest has no I/O or file system errors but those allowed, and has those required.',
    byDefault(
      short(
        object({
          on: byDefault(flag, true),
          allow: byDefault(list(pattern), []),
          require: byDefault(list(pattern), []),
        }),
        flag,
        (on) => ({ on }),
      ),
      { on: true, allow: [], require: [] },
    ),
  ),
  writes: described('No write of a workload has failed.', byDefault(flag, true)),
  checksums: described(
    'All that the workloads wrote and the guest was told is on the disk reads back so.',
    byDefault(flag, true),
  ),
  e2fsck: described('Every ext4 file system that is mounted at the end is clean.', byDefault(flag, true)),
  verify: described('`nbd-remap verify` finds the metadata of the spares whole.', byDefault(flag, true)),
})

const limit: Shape<number, number | string> = {
  schema: { anyOf: [number.schema, duration.schema] },
  read: (value, at) => (typeof value === 'number' ? number : duration).read(value, at),
}

export const measure = described(
  'A figure of a workload.',
  object({
    of: described('Name of the workload.', name),
    value: described(
      'longest-gap: the longest time between two writes that succeeded (ms). latency-max, latency-p99 (ms). writes. throughput (MiB/s).',
      choice('longest-gap', 'latency-max', 'latency-p99', 'writes', 'throughput'),
    ),
    limit: described('The most that is allowed.', optional(limit)),
    after: described('Name of a step: only what came after its beginning counts.', optional(text)),
  }),
)

const failure = short(
  object({
    check: described('Name of a check, of a measurement, or of a step.', text),
    detail: described('What is found there.', optional(pattern)),
  }),
  text,
  (check) => ({ check }),
)

export const control = where(
  object({
    title: described('What is taken away, as a sentence.', text),
    without: described('Name of the server that is not there: its clients get its main disk.', optional(name)),
    change: described('Laid over disks, servers and machines; null takes away.', optional(record(json))),
    steps: described('Steps in place of those of the scenario.', optional(list(step))),
    checks: described('In place of those of the scenario.', optional(checks)),
    expect: described('What has to fail. The rest may.', list(failure, 1)),
  }),
  ({ without, change, steps }) =>
    without === undefined && change === undefined && steps === undefined
      ? "takes nothing away: it needs 'without', 'change' or 'steps'"
      : undefined,
)

export type CheckSettings = OutOf<typeof checks>
export type MeasureSettings = OutOf<typeof measure>
export type ControlSettings = OutOf<typeof control>
