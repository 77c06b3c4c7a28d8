/** What the control run plays on: the same stage without the part of nbd-remap that is to be shown. */
import type { DriveSettings, MachineSettings, Scenario, StageSetup } from './format.js'
import { machinesOf, serversOf } from './cast.js'
import { stageShape } from './format.js'
import { readShape, type Problem } from './shape.js'

/** @returns the stage, and what is wrong with `change`, by its path in the file */
export function controlSetup(scenario: Scenario): {
  readonly setup: StageSetup
  readonly problems: readonly Problem[]
} {
  const { control } = scenario
  const written = {
    disks: scenario.disks,
    servers: serversOf(scenario),
    machines: machinesOf(scenario),
  }
  const changed =
    control?.change === undefined ? written : (overlaid(written, camelOverlay(control.change)) as typeof written)
  const { value, problems } = readShape(stageShape, changed, false)
  if (problems.length > 0)
    return {
      setup: written,
      problems: problems.map((it) => ({
        ...it,
        path: ['control', 'change'],
        what: `${it.path.join('.')}: ${it.what}`,
      })),
    }
  return { setup: control?.without === undefined ? value : withoutServer(value, control.without), problems: [] }
}

/** `server` is the one of that name; names of settings are spelled as in files. */
function camelOverlay(change: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const { server, servers, ...rest } = change
  const all = { ...(servers as object | undefined), ...(server === undefined ? {} : { server }) }
  const named = Object.keys(all).length === 0 ? rest : { ...rest, servers: all }
  return Object.fromEntries(Object.entries(named).map(([part, things]) => [part, camelSettings(things)]))
}

/** The names of the things themselves, and of the options of a server, are left alone. */
function camelSettings(things: unknown): unknown {
  if (!isMapping(things)) return things
  return Object.fromEntries(Object.entries(things).map(([name, settings]) => [name, camelKeys(settings)]))
}

function camelKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camelKeys)
  if (!isMapping(value)) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => {
      const camel = key.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase())
      return [camel, key === 'options' || key === 'device' ? item : camelKeys(item)]
    }),
  )
}

const isMapping = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** As RFC 7396 has it: null takes away, mappings are merged, everything else is put in place. */
export function overlaid(base: unknown, change: unknown): unknown {
  if (!isMapping(change)) return change
  const out: Record<string, unknown> = isMapping(base) ? { ...base } : {}
  for (const [key, value] of Object.entries(change)) {
    if (value === null) Reflect.deleteProperty(out, key)
    else out[key] = overlaid(out[key], value)
  }
  return out
}

/** Whoever has a disk of the server gets its main disk instead. */
function withoutServer(setup: StageSetup, name: string): StageSetup {
  const servers = { ...serversOf(setup) }
  const { main = '' } = servers[name] ?? {}
  Reflect.deleteProperty(servers, name)
  const rewired = (drive: DriveSettings): DriveSettings =>
    // Its node keeps its name, by which steps know it.
    drive.disk === name ? { ...drive, disk: main, node: drive.node ?? name } : drive
  const machines = Object.entries(machinesOf(setup)).map(([machine, settings]): [string, MachineSettings] => [
    machine,
    { ...settings, drives: settings.drives.map(rewired) },
  ])
  return { disks: setup.disks, servers, machines: Object.fromEntries(machines) }
}
