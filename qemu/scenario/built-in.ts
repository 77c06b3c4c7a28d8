/** The scenarios that come with nbd-remap: qemu/scenarios/NAME.yaml. */
import { existsSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { nearest } from '../../src/util/nearest.js'
import { packageRoot } from '../package-root.js'
import { ScenarioFile, ScenarioFileError } from './document.js'
import type { ParameterValue } from './parameters.js'

const folder = (): string => path.join(packageRoot(), 'qemu', 'scenarios')

const builtInNames = (): string[] =>
  readdirSync(folder())
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => path.basename(name, '.yaml'))
    .sort()

/** @throws ScenarioFileError */
export const builtInScenarios = (): ScenarioFile[] =>
  builtInNames().map((name) => ScenarioFile.read(path.join(folder(), `${name}.yaml`)))

/** A word without dots and slashes is the name of a built-in one, everything else is a file. @throws ScenarioFileError */
export function findScenario(word: string, given: Readonly<Record<string, ParameterValue>> = {}): ScenarioFile {
  const builtIn = path.join(folder(), `${word}.yaml`)
  if (!/^[a-z0-9-]+$/.test(word)) return ScenarioFile.read(word, given)
  if (existsSync(builtIn)) return ScenarioFile.read(builtIn, given)
  if (existsSync(word)) return ScenarioFile.read(word, given)
  const [close] = nearest(word, builtInNames())
  const hint = close === undefined ? '' : ` (did you mean ${close}?)`
  throw new ScenarioFileError(
    `there is no scenario '${word}'${hint}: nbd-remap scenario list shows those that come with it, and a file is named by its path`,
  )
}
