/** The scenarios that come with nbd-remap: qemu/scenarios/NAME.yaml. */
import { existsSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { packageRoot } from '../package-root.js'
import { ScenarioFile, ScenarioFileError } from './document.js'
import type { ParameterValue } from './parameters.js'

const folder = (): string => path.join(packageRoot(), 'qemu', 'scenarios')

/** @throws ScenarioFileError */
export const builtInScenarios = (): ScenarioFile[] =>
  readdirSync(folder())
    .filter((name) => name.endsWith('.yaml'))
    .sort()
    .map((name) => ScenarioFile.read(path.join(folder(), name)))

/** A word without dots and slashes is the name of a built-in one, everything else is a file. @throws ScenarioFileError */
export function findScenario(word: string, given: Readonly<Record<string, ParameterValue>> = {}): ScenarioFile {
  const builtIn = path.join(folder(), `${word}.yaml`)
  if (!/^[a-z0-9-]+$/.test(word)) return ScenarioFile.read(word, given)
  if (existsSync(builtIn)) return ScenarioFile.read(builtIn, given)
  if (existsSync(word)) return ScenarioFile.read(word, given)
  throw new ScenarioFileError(
    `there is no scenario '${word}': nbd-remap scenario list shows those that come with it, and a file is named by its path`,
  )
}
