/**
 * `MetadataCheck`: reads all copies of the metadata while clients go on, compares them with memory, and rewrites those that
 * are not what they should be, also copies that were given up because they could not be written. It reads a stride of pages
 * at a time, between two commits, so that nothing that is on its way to the disk is taken for damage.
 */
import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises'
import type { Member } from '../spare/pool.js'
import type { PageFinding } from '../spare/slots.js'
import type { Log } from '../util/log.js'
import type { MetadataCopies, RemapEventSink } from './events.js'
import { Ticker } from './progress.js'
import type { RemapTarget } from './target.js'

/** Of each copy. Commits wait meanwhile. */
const STRIDE_PAGES = 16
/** What is told of them one by one. */
const FINDINGS_MAX = 1000
/** The spare is given up: writing on would be of no use. */
const FAILURES_MAX = 64
/** A paced check takes this much longer than it needs. */
const PACE_FACTOR = 20

/** A request of the operator that cannot be carried out. */
export class MetadataCheckError extends Error {
  override name = 'MetadataCheckError'
}

export interface MetadataFinding extends MetadataCopies {
  readonly repaired: boolean
}

export interface MetadataReport {
  readonly headers: number
  readonly slotPages: number
  /** Headers and slot pages of which a copy was not what it should be. */
  readonly damaged: number
  readonly repaired: number
  /** The first ones of the damaged ones. */
  readonly findings: readonly MetadataFinding[]
}

export interface CheckOptions {
  readonly repair: boolean
  /** Takes its time. */
  readonly paced?: boolean
}

export class MetadataCheck {
  readonly #target: RemapTarget
  readonly #emit: RemapEventSink
  readonly #log: Log
  readonly #closing = new AbortController()
  #running: Promise<MetadataReport> | undefined

  constructor(target: RemapTarget, emit: RemapEventSink, log: Log) {
    this.#target = target
    this.#emit = emit
    this.#log = log
  }

  /** @throws MetadataCheckError when one is running already, or it is not possible; DeviceError */
  async run(options: CheckOptions): Promise<MetadataReport> {
    if (this.#running) throw new MetadataCheckError('the metadata is being checked already')
    if (options.repair && this.#target.readOnly) throw new MetadataCheckError('the pair is served read-only')
    const running = this.#checkAll(options)
    this.#running = running
    try {
      return await running
    } finally {
      this.#running = undefined
    }
  }

  /** What is running comes to an end soon. */
  async close(): Promise<void> {
    this.#closing.abort()
    await this.#running?.catch(() => undefined)
  }

  async #checkAll(options: CheckOptions): Promise<MetadataReport> {
    const report = { headers: 0, slotPages: 0, damaged: 0, repaired: 0, findings: [] as MetadataFinding[] }
    for (const member of this.#target.pool.members) {
      const check = new MemberCheck(member, options, (finding) => {
        this.#tell(finding, options)
        report.damaged++
        if (finding.repaired) report.repaired++
        if (report.findings.length < FINDINGS_MAX) report.findings.push(finding)
      })
      const ticker = new Ticker()
      for (;;) {
        this.#goOnWith(member)
        const startMs = performance.now()
        if (!(await check.step())) break
        const { donePages, totalPages } = check
        const operation = options.repair ? 'repair' : 'verify'
        if (ticker.isDue())
          this.#emit('METADATA_PROGRESS', {
            operation,
            spare: member.name,
            'done-pages': donePages,
            'total-pages': totalPages,
          })
        await this.#rest(options.paced ? (performance.now() - startMs) * PACE_FACTOR : 0)
      }
      report.headers += check.headers
      report.slotPages += check.donePages
    }
    return report
  }

  #goOnWith(member: Member): void {
    if (this.#closing.signal.aborted) throw new MetadataCheckError('the server stops')
    if (!this.#target.pool.members.includes(member))
      throw new MetadataCheckError(`spare ${member.name} has left the pool meanwhile: start it again`)
  }

  async #rest(ms: number): Promise<void> {
    if (ms === 0) await turn()
    else await pause(ms, undefined, { signal: this.#closing.signal, ref: false }).catch(() => undefined)
  }

  #tell({ repaired, ...copies }: MetadataFinding, { repair }: CheckOptions): void {
    const { spare, structure, number, reason } = copies
    const what = structure === 'header' ? 'header' : `slot page ${number}`
    if (!repair) {
      this.#log.warn(`spare ${spare}: ${what} is damaged: ${reason}`)
      return
    }
    if (repaired) this.#log.warn(`spare ${spare}: ${what} was repaired: ${reason}`)
    else
      this.#log.error(
        `spare ${spare}: ${what} cannot be repaired (${reason}): replace the spare, "nbd-remap spare add" another one and "nbd-remap spare remove" this one`,
      )
    this.#emit(repaired ? 'METADATA_REPAIRED' : 'METADATA_DAMAGED', copies)
  }
}

/** The check of one spare, step by step. */
class MemberCheck {
  readonly totalPages: number
  donePages = 0
  headers = 0
  readonly #member: Member
  readonly #options: CheckOptions
  readonly #found: (finding: MetadataFinding) => void
  #failures = 0

  constructor(member: Member, options: CheckOptions, found: (finding: MetadataFinding) => void) {
    this.#member = member
    this.#options = options
    this.#found = found
    // Those that are durable: more may be on their way.
    this.totalPages = member.spare.header.initialisedPages
  }

  /** @returns whether there is more to do */
  async step(): Promise<boolean> {
    if (this.headers === 0) {
      await this.#checkHeader()
      this.headers = 1
      return true
    }
    const count = Math.min(STRIDE_PAGES, this.totalPages - this.donePages)
    if (count <= 0) return false
    await this.#checkPages(this.donePages, count)
    this.donePages += count
    return true
  }

  async #checkHeader(): Promise<void> {
    const { spare, name } = this.#member
    const bad = await spare.checkHeader()
    if (bad.length === 0) return
    if (this.#options.repair) await spare.mendHeader(bad)
    const left = this.#options.repair ? await spare.checkHeader() : bad
    const reason = bad.map((entry) => `copy ${entry.copy} ${entry.reason}`).join(', ')
    const copies = (left.length === 0 ? bad : left).map(({ copy }) => copy)
    this.#found({ spare: name, structure: 'header', number: 0, copies, reason, repaired: left.length === 0 })
  }

  async #checkPages(first: number, count: number): Promise<void> {
    const { slots } = this.#member.spare
    const findings = await slots.check(first, count)
    if (findings.length === 0) return
    if (this.#options.repair) await slots.mend(findings)
    const left = this.#options.repair ? await slots.check(first, count) : findings
    for (const finding of findings) this.#tell(finding, !left.some(({ page }) => page === finding.page))
    if (this.#options.repair && this.#failures > FAILURES_MAX)
      throw new MetadataCheckError(`spare ${this.#member.name} cannot be written any more: replace it`)
  }

  #tell({ page, bad }: PageFinding, repaired: boolean): void {
    if (!repaired) this.#failures++
    const reason = bad.map((entry) => `copy ${entry.copy} ${entry.reason}`).join(', ')
    const copies = bad.map(({ copy }) => copy)
    this.#found({ spare: this.#member.name, structure: 'slot-page', number: page, copies, reason, repaired })
  }
}
