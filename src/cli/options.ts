/** Options that several commands share, and the parsing of their values. */
import { InvalidArgumentError, Option } from 'commander'

export const DISK_HELP =
  'a file, a block device, or an NBD URI (nbd+unix:///export?socket=PATH, nbd://host:port/export)'

export const mainOption = (): Option =>
  new Option('--main <main>', `the failing disk: ${DISK_HELP}`).makeOptionMandatory()
export const controlOption = (): Option =>
  new Option('--control <path>', 'control socket of the server').makeOptionMandatory()
export const jsonOption = (): Option => new Option('--json', 'print JSON')

/** A positive number of bytes, as commander's argument parser. */
export function parseBytes(text: string): number {
  const bytes = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(bytes))
    throw new InvalidArgumentError('It must be a number of bytes.')
  return bytes
}

export function parseCount(text: string): number {
  const count = Number(text)
  if (!/^\d+$/.test(text) || count > 1_000_000) throw new InvalidArgumentError('It must be a whole number.')
  return count
}

export function parseSeconds(text: string): number {
  const seconds = Number(text)
  if (!(seconds > 0 && seconds < 86_400)) throw new InvalidArgumentError('It must be a number of seconds above 0.')
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
