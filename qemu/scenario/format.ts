/**
 * The format of scenario files, which is the vocabulary of the lab as well: one table, from which the reading, the messages,
 * the TypeScript types, and docs/scenario.schema.json come.
 */
import { checks, control, measure } from './format-checks.js'
import { disk, machine, server } from './format-stage.js'
import { step, type StepOut } from './format-steps.js'
import { parameterValue } from './parameters.js'
import { duration, NAME, name } from './quantity.js'
import {
  byDefault,
  described,
  list,
  object,
  optional,
  record,
  text,
  where,
  word,
  type FieldsIn,
  type FieldsOut,
  type OutOf,
} from './shape.js'

/** What plays: the same for a scenario and for a lab that a test opens. */
export const stageFields = {
  disks: described(
    'The images, by name.',
    where(record(disk, NAME), (disks) => (Object.keys(disks).length === 0 ? 'there must be a disk' : undefined)),
  ),
  server: described('nbd-remap; its name is `server`.', optional(server)),
  servers: described('Several of them, by name.', optional(record(server, NAME))),
  machines: described(
    'The virtual machines, by name; without this there is one, named `guest`, with the disk of the server.',
    optional(record(machine, NAME)),
  ),
} as const

export const scenarioFields = {
  name: described('As the file is called, unless given.', optional(name)),
  title: described('What is to be shown, as a sentence.', text),
  seed: described(
    'Everything that is drawn comes from it. Without one, each run has a new one and prints it.',
    optional(word),
  ),
  parameters: described(
    'Values that `--set NAME=VALUE` changes; they stand wherever `{{NAME}}` does.',
    optional(record(parameterValue)),
  ),
  timeout: described('The most that a run may take.', byDefault(duration, 300_000)),
  ...stageFields,
  steps: described('What happens, in this order.', list(step, 1)),
  checks: described(
    'What is checked at the end, whatever happened. All of it, unless said otherwise here.',
    optional(checks),
  ),
  measure: described('Figures of the run, and their limits.', optional(record(measure))),
  control: described(
    'The same run without the part of nbd-remap that is to be shown, and what fails then.',
    optional(control),
  ),
} as const

export const scenarioShape = object(scenarioFields)
export const stageShape = object({ ...stageFields, seed: optional(word) })

export type Scenario = OutOf<typeof scenarioShape>
export type StageSetup = FieldsOut<typeof stageFields>
export type StageInput = FieldsIn<typeof stageFields>
export type Step = StepOut
export type StepOf<Verb extends Step['verb']> = Extract<Step, { readonly verb: Verb }>
export type { CheckSettings, ControlSettings, MeasureSettings } from './format-checks.js'
export type { DiskSettings, DriveSettings, MachineSettings, ServerSettings } from './format-stage.js'
export type { Observation, ObservationInput, Matcher } from './format-observe.js'
