/** What a file can have wrong although each value has its shape: names that nobody has, orders that are impossible, missing images. */
import { existsSync } from 'node:fs'
import path from 'node:path'
import { Cast, noSuch } from './cast.js'
import type { Scenario, Step } from './format.js'
import { Rehearsal } from './rehearsal.js'
import type { Problem } from './shape.js'

/** @param folder what paths are relative to */
export function implausible(scenario: Scenario, folder: string): Problem[] {
  const cast = new Cast(scenario)
  return [
    ...cast.problems,
    ...missingImages(scenario, folder),
    ...new Rehearsal(cast).of(scenario.steps),
    ...new Rehearsal(cast).of(scenario.control?.steps ?? []),
    ...unknownInMeasure(scenario),
    ...unknownInControl(scenario, cast),
  ]
}

function missingImages({ disks }: Scenario, folder: string): Problem[] {
  return Object.entries(disks).flatMap(([name, { image }]) =>
    image === undefined || existsSync(path.resolve(folder, image))
      ? []
      : [
          {
            path: ['disks', name, 'image'],
            what: `is '${image}', and there is no file ${path.resolve(folder, image)}`,
          },
        ],
  )
}

/** All steps, also those inside of others. */
export function flatSteps(steps: readonly Step[]): Step[] {
  return steps.flatMap((step): Step[] => {
    if (step.verb === 'parallel') return [step, ...flatSteps(step.value.flat())]
    if (step.verb === 'background' || step.verb === 'repeat') return [step, ...flatSteps(step.value.steps)]
    return [step]
  })
}

function unknownInMeasure({ steps, measure = {} }: Scenario): Problem[] {
  const all = flatSteps(steps)
  const workloads = all.flatMap((step) => (step.verb === 'workload' ? [step.value.name] : []))
  const names = all.flatMap((step) => step.name ?? [])
  return Object.entries(measure).flatMap(([key, { of, after }]) => [
    ...(workloads.includes(of) ? [] : [{ path: ['measure', key, 'of'], what: noSuch('workload', of, workloads) }]),
    ...(after === undefined || names.includes(after)
      ? []
      : [{ path: ['measure', key, 'after'], what: noSuch('named step', after, names) }]),
  ])
}

/** The names of the checks that always run. */
export const CHECK_NAMES = ['kernel-log', 'writes', 'checksums', 'e2fsck', 'verify', 'processes'] as const

function unknownInControl({ control, steps, measure = {} }: Scenario, cast: Cast): Problem[] {
  if (control === undefined) return []
  const problems: Problem[] = []
  if (control.without !== undefined && !Object.hasOwn(cast.servers, control.without))
    problems.push({ path: ['control', 'without'], what: noSuch('server', control.without, Object.keys(cast.servers)) })
  const names = flatSteps(control.steps ?? steps).flatMap((step) => step.name ?? [])
  const known = [...CHECK_NAMES, ...Object.keys(measure), ...names]
  for (const [n, { check }] of control.expect.entries())
    if (!known.includes(check))
      problems.push({ path: ['control', 'expect', n], what: noSuch('check, measurement or named step', check, known) })
  return problems
}
