/** `nbd-remap dmsetup message|status|table|info|ls|targets|suspend|resume`: questions to devices that are there. */
import { existsSync } from 'node:fs'
import { QmpCommandError } from '../../qmp/error.js'
import { UsageError } from '../../util/errors.js'
import { ask, UnreachableError } from '../ask.js'
import { packageVersion } from '../package-version.js'
import { controlledDevices, devicePaths, type DevicePaths } from './runtime-directory.js'

/** One more command on the way to a device by its name. @throws Error that says that there is none */
export async function askDevice<T>(
  { name, control, log }: DevicePaths,
  command: string,
  args: Record<string, unknown> = {},
): Promise<T> {
  try {
    return await ask<T>(control, command, args)
  } catch (error) {
    if (error instanceof QmpCommandError) throw new Error(error.desc, { cause: error })
    if (!(error instanceof UnreachableError)) throw error
    const reason = existsSync(control)
      ? `its server is not running any more: see ${log}, and create it again`
      : 'nbd-remap dmsetup ls lists those that there are'
    throw new Error(`device ${name} does not exist: ${reason}`, { cause: error })
  }
}

/** Messages whose word is a path. The server may stand in another folder. */
const PATH_MESSAGES = ['spare_add', 'spare_remove']

export async function sendMessage(name: string, sector: string, words: readonly string[]): Promise<void> {
  if (!/^\d+$/.test(sector))
    throw new UsageError(`the sector before the message must be a number, such as 0, not '${sector}'`)
  const [command = '', ...more] = words.join(' ').trim().split(/\s+/)
  const places = PATH_MESSAGES.includes(command) ? await resolved(more) : more
  const message = [command, ...places].join(' ')
  const { text } = await askDevice<{ text: string }>(devicePaths(name), 'device-message', { message })
  process.stdout.write(`${text}\n`)
}

async function resolved(locations: readonly string[]): Promise<string[]> {
  const { resolveLocation } = await import('../../device/location.js')
  return locations.map(resolveLocation)
}

export async function steerDevice(name: string, command: 'suspend' | 'resume'): Promise<void> {
  await askDevice(devicePaths(name), command)
}

interface Lines {
  readonly sectors: number
  readonly table: string
  readonly status: string
}

export const statusOf = (name: string | undefined): Promise<void> => showLines(name, ({ status }) => status)
export const tableOf = (name: string | undefined): Promise<void> => showLines(name, ({ table }) => table)

/** As dmsetup: with the names only if none was given. */
async function showLines(name: string | undefined, line: (lines: Lines) => string): Promise<void> {
  const describe = async (device: DevicePaths): Promise<string> => {
    const text = line(await askDevice<Lines>(device, 'query-device-lines'))
    return name === undefined ? `${device.name}: ${text}\n` : `${text}\n`
  }
  await showAll(name, describe)
}

interface Status {
  readonly suspended: boolean
  readonly 'data-plane': 'running' | 'stalled'
  readonly pid: number
  readonly uri: string
  readonly 'read-only': boolean
  readonly clients: readonly unknown[]
}

export const infoOf = (name: string | undefined): Promise<void> =>
  showAll(name, async (device) => {
    const status = await askDevice<Status>(device, 'query-status')
    const { sectors } = await askDevice<Lines>(device, 'query-device-lines')
    const state = status.suspended ? 'SUSPENDED' : 'ACTIVE'
    const rows = [
      ['Name', device.name],
      ['State', `${state}${status['read-only'] ? ' (READ-ONLY)' : ''}`],
      ['Tables present', 'LIVE'],
      ['Open count', status.clients.length],
      ['Number of targets', 1],
      ['Sectors', sectors],
      ['URI', status.uri],
      ['Server', `pid ${status.pid}${status['data-plane'] === 'stalled' ? ', a disk hangs' : ''}`],
      ['Control', device.control],
      ['Log', device.log],
    ]
    return rows.map(([label, value]) => `${`${label ?? ''}:`.padEnd(19)}${value ?? ''}\n`).join('')
  })

const NONE = 'No devices found\n'

async function showAll(name: string | undefined, describe: (device: DevicePaths) => Promise<string>): Promise<void> {
  if (name !== undefined) {
    process.stdout.write(await describe(devicePaths(name)))
    return
  }
  const texts = await Promise.all(controlledDevices().map((device) => ifThere(describe(device))))
  process.stdout.write(texts.join('') || NONE)
}

/** A socket that a dead server has left is no device. */
async function ifThere(description: Promise<string>): Promise<string> {
  try {
    return await description
  } catch (error) {
    if (error instanceof Error && error.cause instanceof UnreachableError) return ''
    throw error
  }
}

export const listDevices = (): Promise<void> =>
  showAll(undefined, async (device) => {
    const { uri } = await askDevice<Status>(device, 'query-status')
    return `${device.name}\t(${uri})\n`
  })

export async function listTargets(): Promise<void> {
  const { TARGETS } = await import('./table-line.js')
  for (const target of TARGETS) process.stdout.write(`${target.padEnd(16)} v${packageVersion()}\n`)
}
