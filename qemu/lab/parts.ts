/** `Parts`: the disks, servers and machines of a lab by their names, wired to one another. Nothing of them runs yet. */
import path from 'node:path'
import type { GuestImage } from '../guest-image.js'
import type { MachineDrive } from '../machine.js'
import type { DriveSettings, StageSetup } from '../scenario/format.js'
import { machinesOf, serversOf } from '../scenario/cast.js'
import { LabDisk } from './disk.js'
import { LabError } from './error.js'
import type { EventLog } from './events.js'
import { LabMachine } from './lab-machine.js'
import { LabServer } from './server.js'
import type { Timeline } from './timeline.js'
import type { LabWorkload } from './workload.js'

export interface PartsOptions {
  readonly directory: string
  readonly program: string
  /** Undefined: there is no machine. */
  readonly image: GuestImage | undefined
  readonly events: EventLog
  readonly timeline: Timeline
  /** What `{{...}}` in the options of servers stands for. */
  readonly fill: <T>(value: T) => T
}

export type Part = LabDisk | LabServer | LabMachine

export class Parts {
  readonly disks: ReadonlyMap<string, LabDisk>
  readonly servers: ReadonlyMap<string, LabServer>
  readonly machines: ReadonlyMap<string, LabMachine>

  constructor(setup: StageSetup, options: PartsOptions) {
    this.disks = mapped(setup.disks, (name, settings) => new LabDisk(name, settings, options))
    this.servers = mapped(serversOf(setup), (name, settings) => {
      const commandLine = () => ({
        main: this.#address(settings.main),
        spares: settings.spares.map(this.#address),
        ...(settings.replica === undefined ? {} : { replica: this.#address(settings.replica) }),
        options: options.fill(settings.options),
      })
      return new LabServer(name, settings, { ...options, commandLine })
    })
    this.machines = mapped(machinesOf(setup), (name, settings) => {
      const drives = () => settings.drives.map((drive) => driveOf(drive, this.#provider(drive.disk)))
      return new LabMachine(name, settings, { ...options, drives })
    })
  }

  disk(name: string): LabDisk {
    return the('disk', this.disks, name)
  }

  /** @param name not needed when there is one */
  server(name?: string): LabServer {
    return the('server', this.servers, name)
  }

  /** @param name not needed when there is one */
  machine(name?: string): LabMachine {
    return the('machine', this.machines, name)
  }

  get workloads(): LabWorkload[] {
    return [...this.machines.values()].flatMap(({ workloads }) => [...workloads.values()])
  }

  workload(name: string): LabWorkload {
    const found = this.workloads.find((it) => it.name === name)
    if (found === undefined) throw new LabError(`there is no workload '${name}'`)
    return found
  }

  /** Those that lean on others first. */
  get all(): Part[] {
    return [...this.machines.values(), ...this.servers.values(), ...this.disks.values()]
  }

  /** Whether there is a server, machine or storage daemon of that name. */
  knows(name: string): boolean {
    return this.servers.has(name) || this.machines.has(name) || this.disks.get(name)?.isUpstream === true
  }

  /** A server, machine, or disk with a storage daemon. */
  process(name: string): Part {
    const it = this.servers.get(name) ?? this.machines.get(name) ?? this.disks.get(name)
    if (it === undefined || !this.knows(name))
      throw new LabError(`there is no server, machine or storage daemon '${name}'`)
    return it
  }

  /** A QMP command to a server, a machine or the storage daemon of a disk. @throws LabError, QmpError */
  execute(
    target: string,
    command: string,
    args: Readonly<Record<string, unknown>>,
    timeoutMs: number,
  ): Promise<unknown> {
    const it = this.process(target)
    if (it instanceof LabServer) return it.execute(command, args, timeoutMs)
    const qmp = it instanceof LabMachine ? it.machine.qmp : it.daemon.qmp
    return qmp.execute(command, args, { timeoutMs })
  }

  /** What `{{NAME.KEY}}` stands for, if for anything. */
  value(key: string): string | undefined {
    const [name = ''] = key.split('.')
    const server = this.servers.get(name)
    const disk = this.disks.get(name)
    const machine = this.machines.get(name)
    const values: Readonly<Record<string, string | undefined>> = {
      [`${name}.file`]: disk?.file,
      [`${name}.address`]: disk?.address,
      [`${name}.uri`]: server?.uri,
      [`${name}.socket`]: server?.socketPath ?? disk?.socketPath,
      [`${name}.control`]: server?.controlPath,
      [`${name}.monitor`]: machine === undefined ? undefined : path.join(machine.directory, 'monitor.qmp'),
    }
    return values[key]
  }

  readonly #address = (name: string): string => this.disk(name).address

  #provider(name: string): LabServer | LabDisk {
    return this.servers.get(name) ?? this.disk(name)
  }
}

const mapped = <S, T>(settings: Readonly<Record<string, S>>, make: (name: string, one: S) => T): Map<string, T> =>
  new Map(Object.entries(settings).map(([name, one]) => [name, make(name, one)]))

/** @param name the only one when not given */
function the<T>(kind: string, among: ReadonlyMap<string, T>, name?: string): T {
  const found = name === undefined && among.size === 1 ? [...among.values()][0] : among.get(name ?? '')
  if (found !== undefined) return found
  const known = among.size === 0 ? 'there are none' : `there are ${[...among.keys()].join(', ')}`
  throw new LabError(name === undefined ? `say which ${kind}: ${known}` : `there is no ${kind} '${name}': ${known}`)
}

function driveOf(
  { disk, node = disk, reconnectDelay, werror, rerror, device }: DriveSettings,
  provider: LabServer | LabDisk,
): MachineDrive {
  const source =
    provider instanceof LabServer ? { nbd: { path: provider.socketPath, exportName: 'disk' } } : provider.source
  const delay = reconnectDelay === undefined ? {} : { reconnectDelaySeconds: Math.ceil(reconnectDelay / 1000) }
  return {
    nodeName: node,
    source: 'nbd' in source ? { nbd: { ...source.nbd, ...delay } } : source,
    device: { ...device, ...(werror === undefined ? {} : { werror }), ...(rerror === undefined ? {} : { rerror }) },
  }
}
