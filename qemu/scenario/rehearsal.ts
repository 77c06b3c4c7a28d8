/** Goes through the steps of a scenario in their order, as far as that can be known without running them. */
import { SECTOR_SIZE } from '../../src/util/units.js'
import { beyondBlkdebug } from '../blkdebug.js'
import { dataSize } from '../lab/guest-script.js'
import { noSuch, type Cast } from './cast.js'
import type { Step, StepOf } from './format.js'
import { kebab, type Path, type Problem } from './shape.js'

/** Any of these options of `serve` lets faults be put into it. */
const FAULT_OPTIONS = ['fault-injection', 'faults', 'fault-seed'] as const

export class Rehearsal {
  readonly #cast: Cast
  readonly #problems: Problem[] = []
  readonly #workloads = new Set<string>()
  readonly #background = new Set<string>()
  readonly #stopped = new Set<string>()

  constructor(cast: Cast) {
    this.#cast = cast
  }

  of(steps: readonly Step[]): Problem[] {
    for (const step of steps) this.#step(step)
    return this.#problems
  }

  #step(step: Step): void {
    const { servers, disks } = this.#cast
    switch (step.verb) {
      case 'guest':
        this.#machine(step.value.in, step, ['in'])
        break
      case 'workload':
        this.#workload(step)
        break
      case 'finish':
        if (!this.#workloads.has(step.value))
          this.#problem(step, [], `ends the workload '${step.value}', which no step before has started`)
        break
      case 'fault':
        this.#fault(step)
        break
      case 'clear':
        this.#faulty(step.value, step, [])
        break
      case 'fio':
        this.#faulty(step.value.on, step, ['on'])
        break
      case 'kill':
      case 'stop':
      case 'cont':
      case 'quit':
      case 'start':
      case 'powerCut':
        this.#processes(step)
        break
      case 'limitMemory':
        this.#known(servers, 'server', step.value.what, step, ['what'])
        break
      case 'qmp':
        this.#process(step.value.to, step, ['to'])
        break
      case 'copy':
        for (const key of ['from', 'to'] as const) this.#known(disks, 'disk', step.value[key], step, [key])
        break
      case 'damage':
        this.#known(disks, 'disk', step.value.disk, step, ['disk'])
        break
      case 'until':
      case 'assert':
        this.#look(step)
        break
      case 'event':
        if (step.value.from !== undefined) this.#process(step.value.from, step, ['from'])
        break
      case 'parallel':
      case 'background':
      case 'repeat':
      case 'join':
        this.#inner(step)
        break
      case 'check':
        if (Object.keys(this.#cast.machines).length === 0) this.#problem(step, [], 'needs a machine')
    }
  }

  #workload(step: StepOf<'workload'>): void {
    const { in: machine, name } = step.value
    this.#machine(machine, step, ['in'])
    if (this.#workloads.has(name))
      this.#problem(step, ['name'], `is '${name}', which is the name of a workload that was started already`)
    this.#workloads.add(name)
    this.#aligned(step)
  }

  #processes(step: StepOf<'kill' | 'stop' | 'cont' | 'quit' | 'start' | 'powerCut'>): void {
    const targets = step.verb === 'kill' ? step.value.what : step.value
    for (const target of [targets].flat()) this.#process(target, step, [])
    if (step.verb === 'kill' && step.value.whileWriting && !Object.hasOwn(this.#cast.servers, step.value.what))
      this.#problem(step, ['while-writing'], `goes with servers, and '${step.value.what}' is none`)
    if (step.verb === 'stop') this.#stopped.add(step.value)
    if (step.verb === 'cont' && !this.#stopped.delete(step.value))
      this.#problem(step, [], `lets '${step.value}' go on, which was not stopped by a step before`)
  }

  #look(step: StepOf<'until' | 'assert'>): void {
    const { guest, qmp, file, workload } = step.value
    if (guest !== undefined) this.#machine(guest.in, step, ['guest', 'in'])
    if (qmp !== undefined) this.#process(qmp.to, step, ['qmp', 'to'])
    if (file !== undefined) this.#known(this.#cast.disks, 'disk', file.disk, step, ['file', 'disk'])
    if (workload !== undefined && !this.#workloads.has(workload.name))
      this.#problem(step, ['workload', 'name'], `is '${workload.name}', a workload that no step before has started`)
  }

  #inner(step: StepOf<'parallel' | 'background' | 'repeat' | 'join'>): void {
    if (step.verb === 'parallel') for (const branch of step.value) this.of(branch)
    if (step.verb === 'background') this.#background.add(step.value.name)
    if (step.verb === 'background' || step.verb === 'repeat') this.of(step.value.steps)
    if (step.verb === 'join' && !this.#background.delete(step.value))
      this.#problem(step, [], `waits for '${step.value}', and no step before went to the background under this name`)
  }

  #machine(name: string | undefined, step: Step, at: Path): void {
    const names = Object.keys(this.#cast.machines)
    if (name === undefined && names.length !== 1)
      this.#problem(
        step,
        [],
        `must say 'in' which machine: there are ${names.length === 0 ? 'none' : names.join(', ')}`,
      )
    else if (name !== undefined && !names.includes(name)) this.#problem(step, at, noSuch('machine', name, names))
  }

  #aligned(step: StepOf<'workload'>): void {
    const { kind, at } = step.value
    const size = dataSize(step.value)
    if (kind === 'blocks' && size % SECTOR_SIZE !== 0)
      this.#problem(step, ['size'], `is ${size} bytes, and blocks are whole sectors of ${SECTOR_SIZE}`)
    else if (kind === 'blocks' && (at * SECTOR_SIZE) % size !== 0)
      this.#problem(step, ['at'], `begins at sector ${at}, which is not a multiple of its size of ${size} bytes`)
  }

  #fault(step: StepOf<'fault'>): void {
    const { on, rule } = step.value
    this.#faulty(on, step, ['on'])
    const beyond = this.#cast.isUpstream(on) ? beyondBlkdebug(rule) : undefined
    if (beyond !== undefined)
      this.#problem(
        step,
        [],
        `has ${beyond}, which blkdebug beneath the disk '${on}' cannot do: put it on a server, whose built-in fault device can`,
      )
    const server = this.#cast.servers[on]
    if (server && !FAULT_OPTIONS.some((option) => (server.options[option] ?? false) !== false))
      this.#problem(step, ['on'], `is a server without faults: give it the option fault-injection: true`)
  }

  #faulty(name: string, step: Step, at: Path): void {
    if (this.#cast.isUpstream(name) || Object.hasOwn(this.#cast.servers, name)) return
    if (Object.hasOwn(this.#cast.disks, name)) {
      this.#problem(step, at, `is the disk '${name}', which nobody serves over NBD: give it 'via: storage-daemon'`)
      return
    }
    this.#problem(
      step,
      at,
      noSuch('disk or server', name, [...Object.keys(this.#cast.disks), ...Object.keys(this.#cast.servers)]),
    )
  }

  #process(name: string, step: Step, at: Path): void {
    if (this.#cast.isProcess(name)) return
    if (Object.hasOwn(this.#cast.disks, name)) {
      this.#problem(step, at, `names the disk '${name}', which has no process: only one with 'via: storage-daemon' has`)
      return
    }
    const upstream = Object.keys(this.#cast.disks).filter((it) => this.#cast.isUpstream(it))
    const known = [...Object.keys(this.#cast.servers), ...Object.keys(this.#cast.machines), ...upstream]
    this.#problem(step, at, noSuch('server, machine or storage daemon', name, known))
  }

  #known(among: object, kind: string, name: string, step: Step, at: Path): void {
    if (!Object.hasOwn(among, name)) this.#problem(step, at, noSuch(kind, name, Object.keys(among)))
  }

  #problem(step: Step, at: Path, what: string): void {
    this.#problems.push({ path: [...step.path, kebab(step.verb), ...at], what })
  }
}
