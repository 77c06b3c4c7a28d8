/** The machine and the programs that figures belong to: without them they mean nothing. */
import { execFile } from 'node:child_process'
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os'
import { promisify } from 'node:util'
import { findProgram } from '../../qemu/index.js'
import { packageVersion } from '../../src/cli/package-version.js'
import { GiB } from '../../src/util/units.js'

/** Share of the cores that others may use before the figures are worth a warning. */
const LOAD_SHARE_MAX = 0.25

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  readonly kernel: string
  /** Processes that wanted a core in the minute before the benchmark: it should be about 0. */
  readonly loadBefore: number
  readonly versions: Readonly<Record<string, string>>
}

const PROGRAMS = ['fio', 'nbdkit', 'qemu-nbd'] as const

export async function describeMachine(): Promise<Machine> {
  const versions = await Promise.all(PROGRAMS.map(async (program) => [program, await versionOf(program)] as const))
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / GiB),
    kernel: release(),
    loadBefore: loadavg()[0] ?? 0,
    versions: { 'nbd-remap': packageVersion(), node: process.versions.node, ...Object.fromEntries(versions) },
  }
}

/** The first number with a dot that it prints. */
async function versionOf(program: string): Promise<string> {
  const { stdout } = await promisify(execFile)(findProgram(program), ['--version'])
  return /\d+(?:\.\d+)+/.exec(stdout)?.[0] ?? stdout.trim()
}

/** A warning when others use this machine as well. It stands in the plot, too: nobody shall take such figures for final. */
export function describeNoise({ cores, loadBefore }: Machine): string | undefined {
  if (loadBefore <= LOAD_SHARE_MAX * cores) return undefined
  return `The machine was busy when this began (load ${loadBefore.toFixed(1)} on ${cores} cores): do not rely on these figures`
}

/** One line, for people. */
export function formatMachine({ cpu, cores, versions }: Machine): string {
  const programs = Object.entries(versions).map(([program, version]) => `${program} ${version}`)
  return `${cores} cores, ${cpu}; ${programs.join(', ')}`
}
