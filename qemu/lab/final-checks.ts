/** The checks of the end, in their order: while the guests run, then in good order to the end, then the metadata. */
import type { CheckSettings } from '../scenario/format-checks.js'
import { checkContents, checkFileSystems, finding, judgeKernelLog, judgeWrites, type Finding } from './checks.js'
import type { LabMachine } from './lab-machine.js'
import type { CommandResult } from './observe.js'
import type { Parts } from './parts.js'
import type { Timeline } from './timeline.js'

/** One of the checks of the end. */
export interface CheckResult {
  /** `kernel-log`, `writes`, `checksums`, `e2fsck`, `verify`. */
  readonly id: string
  /** As a sentence. */
  readonly name: string
  readonly ok: boolean
  readonly detail: string
}

const CHECKS = {
  'kernel-log': "the guest's kernel log has no I/O error",
  writes: 'no write of the guest has failed',
  checksums: 'all that the guest has written reads back',
  e2fsck: 'e2fsck finds nothing wrong',
  verify: 'nbd-remap verify finds the metadata whole',
} as const
type CheckId = keyof typeof CHECKS

export class FinalChecks {
  readonly #parts: Parts
  readonly #timeline: Timeline
  readonly #program: (words: readonly string[]) => Promise<CommandResult>

  /** @param program runs nbd-remap */
  constructor(parts: Parts, timeline: Timeline, program: (words: readonly string[]) => Promise<CommandResult>) {
    this.#parts = parts
    this.#timeline = timeline
    this.#program = program
  }

  /** All of them. Afterwards nothing of the lab runs in it that ran in good order. */
  async all(settings: CheckSettings): Promise<CheckResult[]> {
    const { machines, servers, workloads } = this.#parts
    await this.#finishWorkloads()
    const results: CheckResult[] = []
    const add = async (id: CheckId, on: boolean, look: () => Promise<Finding>): Promise<void> => {
      if (on) results.push(await this.#check(id, look))
    }
    const written = workloads.length > 0
    await add('kernel-log', settings.kernelLog.on && machines.size > 0, () => this.#kernelLog(settings.kernelLog))
    await add('writes', settings.writes && written, () => Promise.resolve(judgeWrites(workloads)))
    await add('checksums', settings.checksums && written, () => this.#everyMachine(checkContents))
    await add('e2fsck', settings.e2fsck && machines.size > 0, () => this.#everyMachine(checkFileSystems))
    for (const machine of machines.values()) if (machine.running) await machine.end()
    await add('verify', settings.verify && servers.size > 0, () => this.#verify())
    return results
  }

  /** One of them, now. */
  one(id: 'kernel-log' | 'writes' | 'checksums', settings: CheckSettings): Promise<CheckResult> {
    if (id === 'kernel-log') return this.#check(id, () => this.#kernelLog(settings.kernelLog))
    if (id === 'writes') return this.#check(id, () => Promise.resolve(judgeWrites(this.#parts.workloads)))
    return this.#check(id, () => this.#everyMachine(checkContents))
  }

  /** What does not end is told by each check. */
  async #finishWorkloads(): Promise<void> {
    for (const machine of this.#parts.machines.values())
      await machine
        .awake()
        .then(() => machine.finishWorkloads())
        .catch(() => undefined)
  }

  async #check(id: CheckId, look: () => Promise<Finding>): Promise<CheckResult> {
    const { ok, detail } = await finding(look)
    const name = CHECKS[id]
    this.#timeline.check(name, ok, detail)
    return { id, name, ok, detail }
  }

  async #kernelLog(settings: CheckSettings['kernelLog']): Promise<Finding> {
    const logs = await Promise.all([...this.#parts.machines.values()].map((it) => it.kernelLog()))
    return judgeKernelLog(logs.flat(), settings)
  }

  async #everyMachine(look: (machine: LabMachine) => Promise<Finding>): Promise<Finding> {
    const found = []
    for (const machine of this.#parts.machines.values()) {
      await machine.awake()
      found.push(await look(machine))
    }
    return { ok: found.every(({ ok }) => ok), detail: found.map(({ detail }) => detail).join('; ') }
  }

  async #verify(): Promise<Finding> {
    const wrong: string[] = []
    const servers = [...this.#parts.servers.values()]
    // Those first that stand by for others: they would take over.
    for (const server of servers.toReversed()) if (server.running) await server.quit()
    const spares = new Set(servers.flatMap(({ settings }) => settings.spares))
    for (const name of spares) wrong.push(...(await this.#problemsOfSpare(name)))
    return { ok: wrong.length === 0, detail: wrong.length === 0 ? 'no problem' : wrong.join('\n') }
  }

  async #problemsOfSpare(name: string): Promise<string[]> {
    const words = ['verify', '--spare', this.#parts.disk(name).address, '--json']
    const { status, stdout, stderr } = await this.#program(words)
    return status === 0 ? [] : [`${name}: ${stdout.trim()}${stderr.trim()}`]
  }
}
