/** The reports that were asked for, from the records of runs: of `scenario run`, and of `scenario report`. */
import { access, constants, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { writeHtml, writeJson, writeJunit, writeSvg, writeTap, type RunRecord } from '../../qemu/report/index.js'
import { UsageError, writingProblem } from '../util/errors.js'
import { packageVersion } from './package-version.js'

export interface ReportOptions {
  readonly tap?: boolean
  /** Files; `-` is standard output. */
  readonly junit?: string
  readonly json?: string
  readonly html?: string
}

export interface PictureOptions extends ReportOptions {
  readonly svg?: string
}

/** Runs take minutes: a report for which there is no folder is refused before them. @throws UsageError */
export async function refuseUnwritable({ junit, json, html }: ReportOptions): Promise<void> {
  for (const file of [junit, json, html]) {
    if (file === undefined || file === '-') continue
    try {
      await access(dirname(file), constants.W_OK)
    } catch (error) {
      throw new UsageError(`the report ${file} cannot be written: ${writingProblem(error)}`)
    }
  }
}

/** TAP on standard output when nothing was asked for. */
export async function writeReports(records: readonly RunRecord[], options: PictureOptions): Promise<void> {
  const { tap, junit, json, html, svg } = options
  if (junit !== undefined) await write(junit, writeJunit(records))
  if (json !== undefined) await write(json, writeJson(records))
  if (html !== undefined) await write(html, writeHtml(records, { generator: `nbd-remap ${packageVersion()}` }))
  const [first] = records
  if (svg !== undefined && first !== undefined) await write(svg, writeSvg(first))
  if (tap || [junit, json, html, svg].every((file) => file === undefined)) process.stdout.write(writeTap(records))
}

async function write(file: string, text: string): Promise<void> {
  if (file === '-') {
    process.stdout.write(text)
    return
  }
  try {
    await writeFile(file, text)
  } catch (error) {
    throw new Error(`the report ${file} cannot be written: ${writingProblem(error)}`, { cause: error })
  }
}
