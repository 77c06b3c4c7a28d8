/** Rules in a file, and the maps that they name. A map is read once, by whoever makes the rule, relative to their file. */
import { readFile, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { fileProblem, messageOf } from '../util/errors.js'
import { formatBytes, MiB } from '../util/units.js'
import { FaultRuleError, parseFaultFile, type FaultFile } from './parse.js'
import { listedRanges } from './place.js'
import type { FaultRule } from './vocabulary.js'

/** @throws Error with a sentence for people, that names the file */
export async function readFaultFile(path: string): Promise<FaultFile> {
  let value: unknown
  try {
    value = await parse(path, await readFile(path, 'utf8'))
  } catch (error) {
    throw new Error(`${path}: ${problemOf(error)}`, { cause: error })
  }
  try {
    const file = parseFaultFile(value)
    return { ...file, rules: await loadMaps(file.rules, dirname(path)) }
  } catch (error) {
    if (!(error instanceof FaultRuleError)) throw error
    throw new Error(`${path}: ${error.message}`, { cause: error })
  }
}

function problemOf(error: unknown): string {
  if (error instanceof SyntaxError)
    return `it is not JSON (${error.message.replaceAll(/\s+/g, ' ')}); the name of a file with YAML ends in .yaml`
  // YAML's shows the place on further lines.
  const [problem = ''] = fileProblem(error).split(/:?\n/)
  return problem
}

/** By its name it is YAML, else JSON. */
export const isYaml = (path: string): boolean => /\.ya?ml$/i.test(path)

async function parse(path: string, text: string): Promise<unknown> {
  if (!isYaml(path)) return JSON.parse(text)
  const { parse: parseYaml } = await import('yaml')
  return parseYaml(text)
}

/** The rules with the text of each `map-file` in its place. @throws FaultRuleError when one cannot be read */
export const loadMaps = (rules: readonly FaultRule[], folder: string): Promise<FaultRule[]> =>
  Promise.all(rules.map((rule, n) => loadMap(rule, rule.id ?? `rules[${n}]`, folder)))

async function loadMap(rule: FaultRule, where: string, folder: string): Promise<FaultRule> {
  const { 'map-file': path, ...others } = rule
  if (path === undefined) return rule
  try {
    return { ...others, map: await readMap(resolve(folder, path)) }
  } catch (error) {
    throw new FaultRuleError(where, `${where}: 'map-file': ${messageOf(error)}`, 'map-file')
  }
}

/**
 * Whether the map of a rule can be read and names sectors: its content stays with whoever makes the rule.
 * @throws Error with a sentence for people, that names the file
 */
export async function checkMap(path: string, rule: FaultRule): Promise<void> {
  const map = await readMap(path)
  try {
    if (listedRanges(rule, map).length > 0) return
  } catch (error) {
    throw new Error(`${path}, ${messageOf(error)}`, { cause: error })
  }
  throw new Error(`${path}: it names no sector`)
}

/** Some millions of lines. */
const MAP_BYTES_MAX = 64 * MiB

async function readMap(path: string): Promise<string> {
  const stats = await stat(path).catch((error: unknown) => {
    throw new Error(`${path}: ${fileProblem(error)}`, { cause: error })
  })
  if (!stats.isFile()) throw new Error(`${path} is not a file`)
  if (stats.size > MAP_BYTES_MAX)
    throw new Error(`${path} has ${formatBytes(stats.size)}, and ${formatBytes(MAP_BYTES_MAX)} is the limit`)
  return readFile(path, 'utf8')
}
