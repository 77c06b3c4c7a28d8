/** A process seen from outside: what it holds, and when it answers no more, what it is doing. */
import { readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { KiB, formatBytes } from '../../src/util/units.js'

export interface Sample {
  readonly residentBytes: number
  readonly openFiles: number
}

/** Node.js writes what it is doing to a file when it gets this signal, if it was started with `REPORT_OPTIONS`. */
const REPORT_SIGNAL = 'SIGUSR2'
const REPORT_NAME = 'report.json'

export const reportOptions = (folder: string): string =>
  `--report-on-signal --report-signal=${REPORT_SIGNAL} --report-directory=${folder} --report-filename=${REPORT_NAME}`

export class WatchedProcess {
  readonly samples: Sample[] = []
  readonly #pid: number
  readonly #reportFolder: string

  constructor(pid: number, reportFolder: string) {
    this.#pid = pid
    this.#reportFolder = reportFolder
  }

  /** Without what the program opens once, some time or other, to look at itself. */
  get openFiles(): number {
    const folder = `/proc/${this.#pid}/fd`
    return readdirSync(folder).filter((name) => !isInProc(`${folder}/${name}`)).length
  }

  take(): Sample {
    const [, kibibytes] = /VmRSS:\s+(\d+) kB/.exec(this.#status) ?? []
    const sample = { residentBytes: Number(kibibytes) * KiB, openFiles: this.openFiles }
    this.samples.push(sample)
    return sample
  }

  /** The most that it held in a part of the run, which goes from 0 to 1. */
  residentMax(from: number, to: number): number {
    const part = this.samples.slice(Math.floor(from * this.samples.length), Math.ceil(to * this.samples.length))
    return Math.max(...part.map(({ residentBytes }) => residentBytes))
  }

  /** For whoever has to find out why it does not answer. */
  async describe(): Promise<string> {
    process.kill(this.#pid, REPORT_SIGNAL)
    const state = /^State:.*$/m.exec(this.#status)?.[0] ?? 'gone'
    const threads = readdirSync(`/proc/${this.#pid}/task`).map((task) => {
      const of = (file: string): string => readFileSync(`/proc/${this.#pid}/task/${task}/${file}`, 'latin1').trim()
      return `  thread ${task} ${of('comm')}: ${of('wchan')}`
    })
    const children = readFileSync(`/proc/${this.#pid}/task/${this.#pid}/children`, 'latin1').trim()
    const held = formatBytes(this.take().residentBytes)
    return [state, held, `children: ${children}`, ...threads, await this.#report()].join('\n')
  }

  get #status(): string {
    return readFileSync(`/proc/${this.#pid}/status`, 'latin1')
  }

  async #report(): Promise<string> {
    for (let patience = 50; patience > 0; patience--) {
      await new Promise((resolve) => setTimeout(resolve, 100))
      try {
        const text = readFileSync(join(this.#reportFolder, REPORT_NAME), 'utf8')
        const { javascriptStack, libuv } = JSON.parse(text) as Record<string, unknown>
        return JSON.stringify({ javascriptStack, libuv }, null, 1)
      } catch {
        // Not written yet, or not to its end.
      }
    }
    return 'no report'
  }
}

function isInProc(link: string): boolean {
  try {
    return readlinkSync(link).startsWith('/proc/')
  } catch {
    return false // it was closed meanwhile
  }
}
