/** Who plays in a scenario: its disks, servers and machines by name, and the names in them that nobody has. */
import type { MachineSettings, Scenario, ServerSettings } from './format.js'
import type { Path, Problem } from './shape.js'

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
export class Cast {
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

const serverPath = (setup: Setup, name: string): Path =>
  name === 'server' && setup.server !== undefined ? ['server'] : ['servers', name]

const pathOf = (key: string): Path => key.split('.').map((it) => (/^\d+$/.test(it) ? Number(it) : it))

export const noSuch = (kind: string, name: string, known: readonly string[]): string =>
  `names '${name}', and there is no such ${kind}; there are ${known.length === 0 ? 'none' : known.join(', ')}`
