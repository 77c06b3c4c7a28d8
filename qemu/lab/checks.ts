/** The checks of the end. Each returns what it found; none throws because something is wrong with the disks. */
import type { CheckSettings } from '../scenario/format.js'
import { messageOf } from '../../src/util/errors.js'
import { readBlocks, sumFiles } from './guest-script.js'
import type { LabMachine } from './lab-machine.js'
import { dataSize } from './guest-script.js'
import type { LabWorkload } from './workload.js'

export interface Finding {
  readonly ok: boolean
  readonly detail: string
}

/** Lines of a Linux kernel's log that tell of a disk or a file system in trouble. */
const TROUBLE =
  /I\/O error|EXT4-fs error|EXT4-fs warning|JBD2: .*error|Aborting journal|Remounting|lost async page write|blocked for more than/
const LINES_SHOWN = 5
const NAMES_SHOWN = 5
const READ_TIMEOUT_MS = 120_000

/** @param log of all boots. An error that is required and missing is found, too. */
export function judgeKernelLog(log: readonly string[], { allow, require }: CheckSettings['kernelLog']): Finding {
  const errors = log.filter((line) => TROUBLE.test(line) && ![...allow, ...require].some((it) => it.test(line)))
  const missing = require.filter((pattern) => !log.some((line) => pattern.test(line)))
  if (missing.length > 0) return { ok: false, detail: `no line matches ${missing.map(String).join(', ')}` }
  if (errors.length === 0) return { ok: true, detail: 'no error' }
  const shown = errors.slice(0, LINES_SHOWN).join('\n')
  return { ok: false, detail: `${errors.length} lines:\n${shown}${errors.length > LINES_SHOWN ? '\n...' : ''}` }
}

export function judgeWrites(workloads: readonly LabWorkload[]): Finding {
  const writes = workloads.reduce((sum, it) => sum + it.writes.length, 0)
  const failed = workloads.reduce((sum, it) => sum + it.failures, 0)
  if (failed === 0) return { ok: true, detail: `${writes} writes` }
  const each = workloads.filter(({ failures }) => failures > 0).map(({ name, failures }) => `${failures} of '${name}'`)
  return { ok: false, detail: `${failed} of ${writes} writes failed: ${each.join(', ')}` }
}

/** Reads everything that the workloads of a machine have written from its disks again. */
export async function checkContents(machine: LabMachine): Promise<Finding> {
  await machine.guest.check('sync; echo 3 > /proc/sys/vm/drop_caches', { timeoutMs: READ_TIMEOUT_MS })
  const wrong: string[] = []
  let count = 0
  for (const workload of machine.workloads.values()) {
    const check = workload.settings.kind === 'files' ? checkFiles : checkBlocks
    const found = await check(machine, workload)
    count += found.count
    wrong.push(...found.wrong)
  }
  if (wrong.length === 0) return { ok: true, detail: `${count} files and blocks` }
  const more = wrong.length > NAMES_SHOWN ? ', ...' : ''
  return {
    ok: false,
    detail: `${wrong.length} of ${count} are wrong: ${wrong.slice(0, NAMES_SHOWN).join(', ')}${more}`,
  }
}

interface Contents {
  readonly count: number
  readonly wrong: readonly string[]
}

async function checkFiles(machine: LabMachine, workload: LabWorkload): Promise<Contents> {
  const { files, settings, name } = workload
  if (files.size === 0) return { count: 0, wrong: [] }
  // What cannot be read goes to standard error, and the others are read all the same.
  const { stdout } = await machine.run(sumFiles(settings, [...files.keys()]), { timeoutMs: READ_TIMEOUT_MS })
  const found = new Map(stdout.split('\n').map((line) => line.split('  ').reverse() as [string, string]))
  const wrong = [...files].filter(([n, sum]) => found.get(`${name}-${n}`) !== sum)
  return { count: files.size, wrong: wrong.map(([n]) => `${settings.target}/${name}-${n}`) }
}

async function checkBlocks(machine: LabMachine, workload: LabWorkload): Promise<Contents> {
  const { settings, name } = workload
  const wanted = workload.blocks()
  const { stdout } = await machine.run(readBlocks(settings), { timeoutMs: READ_TIMEOUT_MS })
  const size = dataSize(settings)
  const wrong = [...wanted].filter(([place, { number, maybe }]) => {
    const found = stdout.slice(place * size, (place + 1) * size).trimEnd()
    return ![number, ...maybe].some((n) => found === `${name} ${n}`)
  })
  return { count: wanted.size, wrong: wrong.map(([place]) => `block ${place} of ${name}`) }
}

/** Unmounts every ext4 file system of the guest and checks it. Nothing of it is repaired. */
export async function checkFileSystems(machine: LabMachine): Promise<Finding> {
  const mounts = await machine.guest.check(`awk '$3 == "ext4" { print $1, $2 }' /proc/mounts`)
  const bad: string[] = []
  const devices: string[] = []
  for (const line of mounts.split('\n').filter((it) => it !== '')) {
    const [device = '', folder = ''] = line.split(' ')
    devices.push(device)
    const { status, stdout, stderr } = await machine.run(`umount ${folder} && e2fsck -fn ${device}`, {
      timeoutMs: READ_TIMEOUT_MS,
    })
    if (status !== 0) bad.push(`${device}: status ${status}: ${`${stdout}${stderr}`.trim().slice(-500)}`)
  }
  if (bad.length > 0) return { ok: false, detail: bad.join('\n') }
  return { ok: true, detail: devices.length === 0 ? 'no ext4 file system is mounted' : `clean: ${devices.join(', ')}` }
}

/** What could not be looked at is not all right. */
export async function finding(look: () => Promise<Finding>): Promise<Finding> {
  try {
    return await look()
  } catch (error) {
    return { ok: false, detail: messageOf(error) }
  }
}
