/** `nbd-remap scenario report`: what `scenario run --json` has written, in the other forms. */
import { readFile } from 'node:fs/promises'
import { readJson, RecordFormatError, type RunRecord } from '../../qemu/report/index.js'
import { fileProblem, UsageError } from '../util/errors.js'
import { EXIT } from './exit.js'
import { writeReports, type PictureOptions } from './write-reports.js'

/** The exit code says what `scenario run` said. @throws UsageError for a file that is no such report */
export async function reportRuns(files: readonly string[], options: PictureOptions): Promise<void> {
  const records = (await Promise.all(files.map(recordsIn))).flat()
  await writeReports(records, options)
  process.exitCode = records.every(({ outcome }) => outcome === 'passed') ? EXIT.done : EXIT.failed
}

async function recordsIn(file: string): Promise<RunRecord[]> {
  try {
    return readJson(await readFile(file === '-' ? '/dev/stdin' : file, 'utf8'))
  } catch (error) {
    const hint = error instanceof RecordFormatError ? '; it should be what "nbd-remap scenario run --json" writes' : ''
    throw new UsageError(`${file}: ${fileProblem(error)}${hint}`, { cause: error })
  }
}
