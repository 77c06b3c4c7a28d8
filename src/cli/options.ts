/** Options that several commands share, and the parsing of their values. */
import { InvalidArgumentError, Option, type Command } from 'commander'
import { parseAddress } from '../qmp/transport.js'

export const DISK_HELP =
  'a file, a block device, or an NBD URI (nbd+unix:///export?socket=PATH, nbd://host:port/export)'

export const mainOption = (): Option =>
  new Option('--main <main>', `the failing disk: ${DISK_HELP}`).argParser(parseLocation).makeOptionMandatory()
export const spareOption = (purpose: string): Option =>
  new Option('--spare <spare>', `${purpose}: ${DISK_HELP}`).argParser(parseLocation).makeOptionMandatory()
export const fromOption = (what: string): Option =>
  new Option('--from <disk>', `${what}: ${DISK_HELP}`).argParser(parseLocation).makeOptionMandatory()
export const toOption = (what: string): Option =>
  new Option('--to <disk>', `${what}: ${DISK_HELP}`).argParser(parseLocation).makeOptionMandatory()
/** May be given several times. */
export const sparesOption = (purpose: string): Option =>
  new Option('--spare <spare>', `${purpose}; several make one pool: ${DISK_HELP}`)
    .argParser((value: string, previous: readonly string[] | undefined) => [...(previous ?? []), parseLocation(value)])
    .makeOptionMandatory()
export const controlOption = (): Option => optionalControlOption('control socket of the server').makeOptionMandatory()
export const optionalControlOption = (purpose: string): Option =>
  new Option('--control <address>', `${purpose}: its path, HOST:PORT, or ws://HOST:PORT/qmp`).argParser(parseControl)

function parseControl(text: string): string {
  const address = parseAddress(text)
  return typeof address === 'string' ? parseSocketPath(address) : text
}
export const jsonOption = (): Option => new Option('--json', 'print JSON')
export const watchOption = (): Option =>
  new Option('--watch <seconds>', 'again every so many seconds, until Ctrl-C').argParser(parseSeconds)

export const listFormatOption = (description: string): Option =>
  new Option('--format <format>', description).choices(['own', 'badblocks', 'ddrescue'])
export const unitOption = (): Option =>
  new Option('--unit <bytes>', 'of a badblocks list: its block size, as given to badblocks -b')
    .argParser(parseUnit)
    .default(1024)

export const statusesOption = (): Option =>
  new Option('--statuses <chars>', 'of a ddrescue map: areas with one of these statuses')
    .argParser(parseStatuses)
    .default('-*/')

function parseStatuses(text: string): string {
  if (!/^[-?*/+]+$/.test(text)) throw new InvalidArgumentError('It must be some of the characters ? * / - +.')
  return text
}

function parseUnit(text: string): number {
  const unit = Number(text)
  if (!/^\d+$/.test(text) || unit < 512 || unit > 2 ** 30 || !Number.isInteger(Math.log2(unit))) {
    throw new InvalidArgumentError('It must be a power of two from 512 to 1073741824.')
  }
  return unit
}

/** Settings of the remap table; what is absent is not changed. */
export interface TableOptions {
  readonly minBuckets?: number
  readonly growLoad?: number
  readonly shrinkLoad?: number
}

/** @param prefix of the names of the options */
export const addTableOptions = (command: Command, prefix: '' | 'table-'): Command =>
  command
    .option(`--${prefix}min-buckets <n>`, 'the remap table never has fewer buckets (default: 64)', parseWhole)
    .option(
      `--${prefix}grow-load <n>`,
      'above this load, remaps * 100 / buckets, they double (default: 150)',
      parseWhole,
    )
    .option(`--${prefix}shrink-load <n>`, 'below this load they halve (default: 50)', parseWhole)

function parseWhole(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('It must be a whole number.')
  return Number(text)
}

export function parseLocation(text: string): string {
  if (text === '') throw new InvalidArgumentError(`It must be ${DISK_HELP}.`)
  return text
}

const BYTE_UNITS: readonly string[] = ['', 'K', 'M', 'G', 'T', 'P']

/** `50M`: units are powers of 1024, as truncate(1) has them. */
export function parseBytes(text: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,15})([KMGTP]?)$/i.exec(text) ?? []
  const bytes = Number(digits) * 1024 ** BYTE_UNITS.indexOf(unit.toUpperCase())
  if (digits === '' || !Number.isSafeInteger(bytes))
    throw new InvalidArgumentError('It must be a number of bytes, such as 50M.')
  return bytes
}

/** `sun_path` of Linux without its final NUL. */
export const SOCKET_PATH_BYTES_MAX = 107

export function parseSocketPath(text: string): string {
  if (text === '') throw new InvalidArgumentError('It must be a path.')
  const bytes = Buffer.byteLength(text)
  if (bytes > SOCKET_PATH_BYTES_MAX) {
    throw new InvalidArgumentError(
      `It has ${bytes} bytes, and the path of a socket has ${SOCKET_PATH_BYTES_MAX} at most.`,
    )
  }
  return text
}

const EXPORT_NAME_BYTES_MAX = 4096

export function parseExportName(text: string): string {
  if (Buffer.byteLength(text) > EXPORT_NAME_BYTES_MAX) {
    throw new InvalidArgumentError(`The NBD protocol allows names of ${EXPORT_NAME_BYTES_MAX} bytes at most.`)
  }
  return text
}

export const BLOCK_SIZE_HELP = 'unit of remapping, a power of two from 512 to 32768 (default: 4096)'

export function parseBlockSize(text: string): number {
  const size = Number(text)
  if (!/^\d+$/.test(text) || size < 512 || size > 32_768 || !Number.isInteger(Math.log2(size))) {
    throw new InvalidArgumentError('It must be a power of two from 512 to 32768.')
  }
  return size
}

export function parseSector(text: string): number {
  const sector = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(sector))
    throw new InvalidArgumentError('It must be a sector number.')
  return sector
}

export function parseLength(text: string): number {
  const sectors = parseSector(text)
  if (sectors === 0) throw new InvalidArgumentError('It must be at least 1.')
  return sectors
}

const COUNT_MAX = 1_000_000

export const parseCount =
  (least: number) =>
  (text: string): number => {
    const count = Number(text)
    if (!/^\d+$/.test(text) || count < least || count > COUNT_MAX) {
      throw new InvalidArgumentError(`It must be a whole number from ${least} to ${COUNT_MAX}.`)
    }
    return count
  }

export function parsePercent(text: string): number {
  const percent = Number(text)
  if (text.trim() === '' || !(percent >= 0 && percent <= 100)) {
    throw new InvalidArgumentError('It must be a number of percent from 0 to 100.')
  }
  return percent
}

export function parseSeconds(text: string): number {
  const seconds = Number(text)
  if (!(seconds > 0 && seconds < 86_400)) {
    throw new InvalidArgumentError('It must be a number of seconds above 0 and below 86400.')
  }
  return seconds
}

/** Less than the pauses that a busy machine makes would end workers that are well. */
const HANG_TIMEOUT_MIN = 0.1

export function parseHangTimeout(text: string): number {
  const seconds = Number(text)
  if (text.trim() === '' || !(seconds === 0 || (seconds >= HANG_TIMEOUT_MIN && seconds < 86_400)))
    throw new InvalidArgumentError(`It must be a number of seconds from ${HANG_TIMEOUT_MIN} to 86400, or 0.`)
  return seconds
}

/** What a timer can wait for. */
const SELF_CHECK_MAX = 2_000_000

export function parseSelfCheck(text: string): number {
  const seconds = Number(text)
  if (text.trim() === '' || !(seconds >= 0 && seconds <= SELF_CHECK_MAX))
    throw new InvalidArgumentError(`It must be a number of seconds from 0 to ${SELF_CHECK_MAX}.`)
  return seconds
}

export interface HostPort {
  readonly host: string
  readonly port: number
}

/** `127.0.0.1:10809`, `[::1]:10809`, `:10809` (the loopback address). */
export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]*)):(\d{1,5})$/i.exec(text)
  const port = Number(match?.[3])
  if (!match || port > 65_535) throw new InvalidArgumentError('It must be HOST:PORT, such as 127.0.0.1:10809.')
  return { host: match[1] ?? (match[2] === '' || match[2] === undefined ? '127.0.0.1' : match[2]), port }
}

/** Where to take control connections: a path, or HOST:PORT of this machine alone, for there is nothing to say who may. */
export function parseControlListen(text: string): ControlAddress {
  const address = parseAddress(text)
  if (typeof address === 'string') return { path: parseSocketPath(address) }
  if ('url' in address) throw new InvalidArgumentError('It must be a path or HOST:PORT; --http serves WebSockets.')
  if (!isLoopback(address.host)) {
    throw new InvalidArgumentError(
      `Everybody who can connect to ${address.host} could give commands: only a loopback address is possible, such as 127.0.0.1:${address.port}. --http asks for a token.`,
    )
  }
  return parseHostPort(text.replace(/^tcp:/, ''))
}

export type ControlAddress = { readonly path: string } | HostPort

/** Only this machine itself can connect there. */
export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
