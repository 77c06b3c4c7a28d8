/** The reports that were asked for, from the records of runs: of `scenario run`, and of `scenario report`. */
import { writeFile } from 'node:fs/promises'
import { writeHtml, writeJson, writeJunit, writeTap, type RunRecord } from '../../qemu/report/index.js'
import { fileProblem } from '../util/errors.js'
import { packageVersion } from './package-version.js'

export interface ReportOptions {
  readonly tap?: boolean
  /** Files; `-` is standard output. */
  readonly junit?: string
  readonly json?: string
  readonly html?: string
}

/** TAP on standard output when nothing was asked for. */
export async function writeReports(records: readonly RunRecord[], options: ReportOptions): Promise<void> {
  const { tap, junit, json, html } = options
  if (junit !== undefined) await write(junit, writeJunit(records))
  if (json !== undefined) await write(json, writeJson(records))
  if (html !== undefined) await write(html, writeHtml(records, { generator: `nbd-remap ${packageVersion()}` }))
  if (tap || [junit, json, html].every((file) => file === undefined)) process.stdout.write(writeTap(records))
}

async function write(file: string, text: string): Promise<void> {
  if (file === '-') {
    process.stdout.write(text)
    return
  }
  try {
    await writeFile(file, text)
  } catch (error) {
    throw new Error(`the report ${file} cannot be written: ${fileProblem(error)}`, { cause: error })
  }
}
