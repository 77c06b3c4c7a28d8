/** What a file can have wrong although each value has its shape: names that nobody has, orders that are impossible, missing images. */
import { existsSync } from 'node:fs'
import path from 'node:path'
import { SECTOR_SIZE } from '../../src/util/units.js'
import { dataSize } from '../lab/guest-script.js'
import { beyondBlkdebug } from '../blkdebug.js'
import type { MachineSettings, Scenario, ServerSettings, Step } from './format.js'
import { kebab, type Path, type Problem } from './shape.js'

/** @param folder what paths are relative to */
export function implausible(scenario: Scenario, folder: string): Problem[] {
  const cast = new Cast(scenario)
  return [
    ...cast.problems,
    ...missingImages(scenario, folder),
    ...new Rehearsal(cast).of(scenario.steps),
    ...new Rehearsal(cast).of(scenario.control?.steps ?? []),
    ...unknownInMeasure(scenario),
    ...unknownInControl(scenario, cast),
  ]
}

type Setup = Pick<Scenario, 'disks' | 'server' | 'servers' | 'machines'>

/** The one server is named `server`. */
export const serversOf = ({ server, servers }: Setup): Readonly<Record<string, ServerSettings>> => ({
  ...(server === undefined ? {} : { server }),
  ...servers,
})

/** Without any said there is one, named `guest`, on the first server or else the first disk. */
export function machinesOf(setup: Setup): Readonly<Record<string, MachineSettings>> {
  if (setup.machines !== undefined) return setup.machines
  const [disk = ''] = [...Object.keys(serversOf(setup)), ...Object.keys(setup.disks)]
  const drive = { disk, reconnectDelay: 30_000, device: {} }
  return {
    guest: { drives: [drive], memory: 256 * 1024 * 1024, cpus: 1, accelerator: 'tcg', args: [], start: 'at-once' },
  }
}

/** Names that nobody has. */
export const castProblems = (setup: Setup): readonly Problem[] => new Cast(setup).problems

/** Who plays, and whether they can. */
class Cast {
  readonly disks: Scenario['disks']
  readonly servers: Readonly<Record<string, ServerSettings>>
  readonly machines: Readonly<Record<string, MachineSettings>>
  readonly problems: Problem[] = []

  constructor(setup: Setup) {
    this.disks = setup.disks
    this.servers = serversOf(setup)
    this.machines = machinesOf(setup)
    this.#sameNames()
    for (const [name, server] of Object.entries(this.servers)) this.#server(server, serverPath(setup, name))
    for (const [name, machine] of Object.entries(setup.machines ?? {})) this.#machine(machine, ['machines', name])
  }

  /** Whether it is a disk behind a storage daemon. */
  isUpstream(name: string): boolean {
    return this.disks[name]?.via === 'storage-daemon'
  }

  isProcess(name: string): boolean {
    return Object.hasOwn(this.servers, name) || Object.hasOwn(this.machines, name) || this.isUpstream(name)
  }

  #sameNames(): void {
    for (const name of Object.keys(this.servers))
      if (Object.hasOwn(this.disks, name))
        this.problems.push({
          path: ['disks', name],
          what: `there is a server '${name}', too: names are for one thing`,
          atKey: true,
        })
    for (const name of Object.keys(this.machines))
      if (Object.hasOwn(this.disks, name) || Object.hasOwn(this.servers, name))
        this.problems.push({
          path: ['machines', name],
          what: `'${name}' is the name of a disk or a server, too`,
          atKey: true,
        })
  }

  #server(server: ServerSettings, at: Path): void {
    const disks = [
      ['main', server.main] as const,
      ...server.spares.map((spare, n) => [`spares.${n}`, spare] as const),
      ...(server.replica === undefined ? [] : [['replica', server.replica] as const]),
    ]
    for (const [key, disk] of disks)
      if (!Object.hasOwn(this.disks, disk))
        this.problems.push({ path: [...at, ...pathOf(key)], what: noSuch('disk', disk, Object.keys(this.disks)) })
    this.#standby(server, at)
  }

  #standby({ standbyOf }: ServerSettings, at: Path): void {
    if (standbyOf === undefined) return
    const first = this.servers[standbyOf]
    const path = [...at, 'standby-of']
    if (first === undefined) this.problems.push({ path, what: noSuch('server', standbyOf, Object.keys(this.servers)) })
    else if (first.standbyOf !== undefined)
      this.problems.push({
        path,
        what: `names '${standbyOf}', which stands by itself: name the server whose sockets these are`,
      })
  }

  #machine(machine: MachineSettings, at: Path): void {
    for (const [n, { disk }] of machine.drives.entries())
      if (!Object.hasOwn(this.disks, disk) && !Object.hasOwn(this.servers, disk))
        this.problems.push({
          path: [...at, 'drives', n, 'disk'],
          what: noSuch('server or disk', disk, [...Object.keys(this.servers), ...Object.keys(this.disks)]),
        })
  }
}

/** Any of these options of `serve` lets faults be put into it. */
const FAULT_OPTIONS = ['fault-injection', 'faults', 'fault-seed'] as const

const serverPath = (setup: Setup, name: string): Path =>
  name === 'server' && setup.server !== undefined ? ['server'] : ['servers', name]

const pathOf = (key: string): Path => key.split('.').map((it) => (/^\d+$/.test(it) ? Number(it) : it))

const noSuch = (kind: string, name: string, known: readonly string[]): string =>
  `names '${name}', and there is no such ${kind}; there are ${known.length === 0 ? 'none' : known.join(', ')}`

function missingImages({ disks }: Scenario, folder: string): Problem[] {
  return Object.entries(disks).flatMap(([name, { image }]) =>
    image === undefined || existsSync(path.resolve(folder, image))
      ? []
      : [
          {
            path: ['disks', name, 'image'],
            what: `is '${image}', and there is no file ${path.resolve(folder, image)}`,
          },
        ],
  )
}

/** Goes through the steps in their order, as far as that can be known without running them. */
class Rehearsal {
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
    const { machines, disks } = this.#cast
    switch (step.verb) {
      case 'guest': {
        this.#machine(step.value.in, step, ['in'])
        return
      }
      case 'workload':
        this.#machine(step.value.in, step, ['in'])
        if (this.#workloads.has(step.value.name))
          this.#problem(
            step,
            ['name'],
            `is '${step.value.name}', which is the name of a workload that was started already`,
          )
        this.#workloads.add(step.value.name)
        this.#aligned(step)
        return
      case 'finish':
        if (!this.#workloads.has(step.value))
          this.#problem(step, [], `ends the workload '${step.value}', which no step before has started`)
        return
      case 'fault': {
        this.#fault(step)
        return
      }
      case 'clear': {
        this.#faulty(step.value, step, [])
        return
      }
      case 'kill': {
        this.#process(step.value.what, step, [])
        return
      }
      case 'limitMemory':
        this.#known(this.#cast.servers, 'server', step.value.what, step, ['what'])
        return
      case 'stop':
        this.#process(step.value, step, [])
        this.#stopped.add(step.value)
        return
      case 'cont':
        this.#process(step.value, step, [])
        if (!this.#stopped.delete(step.value))
          this.#problem(step, [], `lets '${step.value}' go on, which was not stopped by a step before`)
        return
      case 'quit':
        this.#process(step.value, step, [])
        return
      case 'start':
      case 'powerCut':
        for (const target of step.value) this.#process(target, step, [])
        return
      case 'qmp': {
        this.#process(step.value.to, step, ['to'])
        return
      }
      case 'fio':
        this.#faulty(step.value.on, step, ['on'])
        return
      case 'copy':
        for (const key of ['from', 'to'] as const) this.#known(disks, 'disk', step.value[key], step, [key])
        return
      case 'damage': {
        this.#known(disks, 'disk', step.value.disk, step, ['disk'])
        return
      }
      case 'until':
      case 'assert': {
        const { guest, qmp, file, workload } = step.value
        if (guest !== undefined) this.#machine(guest.in, step, ['guest', 'in'])
        if (qmp !== undefined) this.#process(qmp.to, step, ['qmp', 'to'])
        if (file !== undefined) this.#known(disks, 'disk', file.disk, step, ['file', 'disk'])
        if (workload !== undefined && !this.#workloads.has(workload.name))
          this.#problem(step, ['workload', 'name'], `is '${workload.name}', a workload that no step before has started`)
        return
      }
      case 'event':
        if (step.value.from !== undefined) this.#process(step.value.from, step, ['from'])
        return
      case 'parallel':
        for (const branch of step.value) this.of(branch)
        return
      case 'background':
        this.#background.add(step.value.name)
        this.of(step.value.steps)
        return
      case 'repeat':
        this.of(step.value.steps)
        return
      case 'join':
        if (!this.#background.delete(step.value))
          this.#problem(
            step,
            [],
            `waits for '${step.value}', and no step before went to the background under this name`,
          )
        return
      case 'check':
        if (Object.keys(machines).length === 0) this.#problem(step, [], 'needs a machine')
    }
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

  #aligned(step: Extract<Step, { verb: 'workload' }>): void {
    const { kind, at } = step.value
    const size = dataSize(step.value)
    if (kind === 'blocks' && size % SECTOR_SIZE !== 0)
      this.#problem(step, ['size'], `is ${size} bytes, and blocks are whole sectors of ${SECTOR_SIZE}`)
    else if (kind === 'blocks' && (at * SECTOR_SIZE) % size !== 0)
      this.#problem(step, ['at'], `begins at sector ${at}, which is not a multiple of its size of ${size} bytes`)
  }

  #fault(step: Extract<Step, { verb: 'fault' }>): void {
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

/** All steps, also those inside of others. */
export function flatSteps(steps: readonly Step[]): Step[] {
  return steps.flatMap((step): Step[] => {
    if (step.verb === 'parallel') return [step, ...flatSteps(step.value.flat())]
    if (step.verb === 'background' || step.verb === 'repeat') return [step, ...flatSteps(step.value.steps)]
    return [step]
  })
}

function unknownInMeasure({ steps, measure = {} }: Scenario): Problem[] {
  const all = flatSteps(steps)
  const workloads = all.flatMap((step) => (step.verb === 'workload' ? [step.value.name] : []))
  const names = all.flatMap((step) => step.name ?? [])
  return Object.entries(measure).flatMap(([key, { of, after }]) => [
    ...(workloads.includes(of) ? [] : [{ path: ['measure', key, 'of'], what: noSuch('workload', of, workloads) }]),
    ...(after === undefined || names.includes(after)
      ? []
      : [{ path: ['measure', key, 'after'], what: noSuch('named step', after, names) }]),
  ])
}

/** The names of the checks that always run. */
export const CHECK_NAMES = ['kernel-log', 'writes', 'checksums', 'e2fsck', 'verify', 'processes'] as const

function unknownInControl({ control, steps, measure = {} }: Scenario, cast: Cast): Problem[] {
  if (control === undefined) return []
  const problems: Problem[] = []
  if (control.without !== undefined && !Object.hasOwn(cast.servers, control.without))
    problems.push({ path: ['control', 'without'], what: noSuch('server', control.without, Object.keys(cast.servers)) })
  const names = flatSteps(control.steps ?? steps).flatMap((step) => step.name ?? [])
  const known = [...CHECK_NAMES, ...Object.keys(measure), ...names]
  for (const [n, { check }] of control.expect.entries())
    if (!known.includes(check))
      problems.push({ path: ['control', 'expect', n], what: noSuch('check, measurement or named step', check, known) })
  return problems
}
