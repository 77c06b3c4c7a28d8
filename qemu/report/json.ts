/** Records as a JSON document, and the way back: what `--json` prints today is rendered again tomorrow. */
import { cleanLine } from './clean-text.js'
import type { RunRecord } from './record.js'
import { MARK_KINDS, OUTCOMES } from './record.js'

/** Of the format of the document; a reader refuses a later one. */
export const RUNS_VERSION = 1
/** A control run has no control run of its own; a document that goes deeper is not one of ours. */
const CONTROL_DEPTH_MAX = 2

/** The document: docs/runs.schema.json describes it. */
export interface RunsDocument {
  readonly version: typeof RUNS_VERSION
  readonly runs: readonly RunRecord[]
}

/** What was read is not a document of runs; the message says where and why. */
export class RecordFormatError extends Error {
  override readonly name = 'RecordFormatError'
}

export const writeJson = (runs: readonly RunRecord[]): string =>
  `${JSON.stringify({ version: RUNS_VERSION, runs } satisfies RunsDocument, null, 1)}\n`

/** @throws RecordFormatError */
export function readJson(text: string): RunRecord[] {
  const document = fields(parse(text), 'the document')
  if (document['version'] !== RUNS_VERSION) {
    const found = 'version' in document ? JSON.stringify(document['version']) : 'none'
    throw new RecordFormatError(`version: ${found}, but this program reads ${RUNS_VERSION} only`)
  }
  const runs = items(document['runs'], 'runs')
  for (const [n, run] of runs.entries()) checkRun(run, `runs[${n}]`, 1)
  return runs as RunRecord[]
}

/** JSON has no NaN: what could not be measured is `null` there. */
function reviveMeasurement(measurement: Record<string, unknown>): void {
  if (measurement['value'] === null) measurement['value'] = NaN
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new RecordFormatError(`not JSON: ${cleanLine((error as Error).message)}`, { cause: error })
  }
}

function checkRun(value: unknown, where: string, depth: number): void {
  const run = fields(value, where)
  for (const name of ['name', 'title', 'seed', 'startedAt']) text(run[name], `${where}.${name}`)
  if (Number.isNaN(Date.parse(run['startedAt'] as string))) wrong(`${where}.startedAt`, 'a date as ISO 8601 has it')
  time(run['durationMs'], `${where}.durationMs`)
  oneOf(run['outcome'], OUTCOMES, `${where}.outcome`)
  optional(run['error'], text, `${where}.error`)
  each(run['checks'], `${where}.checks`, checkCheck)
  each(run['measurements'], `${where}.measurements`, checkMeasurement)
  each(run['series'], `${where}.series`, checkSeries)
  each(run['marks'], `${where}.marks`, checkMark)
  if (run['control'] === undefined) return
  if (depth === CONTROL_DEPTH_MAX) wrong(`${where}.control`, 'absent: a control run has none of its own')
  checkRun(run['control'], `${where}.control`, depth + 1)
}

function checkCheck(value: unknown, where: string): void {
  const check = fields(value, where)
  text(check['name'], `${where}.name`)
  if (typeof check['ok'] !== 'boolean') wrong(`${where}.ok`, 'true or false')
  optional(check['detail'], text, `${where}.detail`)
  time(check['atMs'], `${where}.atMs`)
}

function checkMeasurement(value: unknown, where: string): void {
  const measurement = fields(value, where)
  reviveMeasurement(measurement)
  text(measurement['name'], `${where}.name`)
  number(measurement['value'], `${where}.value`)
  text(measurement['unit'], `${where}.unit`)
  optional(measurement['limit'], number, `${where}.limit`)
}

function checkSeries(value: unknown, where: string): void {
  const series = fields(value, where)
  for (const name of ['lane', 'name', 'unit']) text(series[name], `${where}.${name}`)
  each(series['points'], `${where}.points`, (point, at) => {
    const pair = items(point, at)
    if (pair.length !== 2) wrong(at, 'a time and a value')
    number(pair[0], `${at}[0]`)
    if (pair[1] !== null) number(pair[1], `${at}[1]`)
  })
}

function checkMark(value: unknown, where: string): void {
  const mark = fields(value, where)
  time(mark['atMs'], `${where}.atMs`)
  oneOf(mark['kind'], MARK_KINDS, `${where}.kind`)
  text(mark['text'], `${where}.text`)
  optional(mark['durationMs'], time, `${where}.durationMs`)
}

type Check = (value: unknown, where: string) => void

function wrong(where: string, expected: string): never {
  throw new RecordFormatError(`${where} must be ${expected}`)
}

function fields(value: unknown, where: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return wrong(where, 'an object')
  return value as Record<string, unknown>
}

function items(value: unknown, where: string): unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : wrong(where, 'an array')
}

function each(value: unknown, where: string, check: Check): void {
  for (const [n, item] of items(value, where).entries()) check(item, `${where}[${n}]`)
}

const text: Check = (value, where) => {
  if (typeof value !== 'string') wrong(where, 'a string')
}

const number: Check = (value, where) => {
  if (typeof value !== 'number') wrong(where, 'a number')
}

const time: Check = (value, where) => {
  if (typeof value !== 'number' || value < 0) wrong(where, 'a number of milliseconds, 0 or more')
}

function oneOf(value: unknown, names: readonly string[], where: string): void {
  if (!names.includes(value as string)) wrong(where, `one of ${names.join(', ')}`)
}

function optional(value: unknown, check: Check, where: string): void {
  if (value !== undefined) check(value, where)
}
