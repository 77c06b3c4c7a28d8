/**
 * What a block node stands for, from what QEMU says of it: the driver, and a file name, an NBD URI in QEMU's own spelling,
 * or `json:` with options. Pure. Whatever is not the plain bytes of one file or export is `other`: nbd-remap would serve
 * something else than what the machine sees.
 */
import { formatNbdUri, parseNbdUri, type NbdUri } from '../../src/nbd/uri.js'

export type Source =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'nbd'; readonly uri: NbdUri }
  | { readonly kind: 'other'; readonly what: string }

type Options = Readonly<Record<string, unknown>>

const FILE_DRIVERS: ReadonlySet<string> = new Set(['file', 'host_device'])

/** @param driver of the node that the device uses, @param file as `query-block` has it */
export function sourceOf(driver: string, file: string): Source {
  if (file.startsWith('json:')) return sourceOfJson(file)
  if (driver !== 'raw' && driver !== 'nbd' && !FILE_DRIVERS.has(driver)) return other(driver)
  if (/^nbd(\+[a-z]+)?:/.test(file)) return sourceOfUri(file)
  if (/^[a-z0-9+]+:\/\//i.test(file)) return other(file.replace(/:.*/s, ''))
  return { kind: 'file', path: file }
}

const other = (what: string): Source => ({ kind: 'other', what })

/** QEMU leaves the third slash out where there is no export name: `nbd+unix://?socket=PATH`. */
function sourceOfUri(text: string): Source {
  try {
    return { kind: 'nbd', uri: parseNbdUri(text.replace(/^(nbd\+unix):\/\/\?/, '$1:///?')) }
  } catch {
    return other(text)
  }
}

function sourceOfJson(text: string): Source {
  try {
    return sourceOfOptions(unflatten(JSON.parse(text.slice('json:'.length)) as Options))
  } catch {
    return other(text)
  }
}

function sourceOfOptions(options: Options): Source {
  const { driver } = options
  if (driver === 'raw') {
    const isPart = options['offset'] !== undefined || options['size'] !== undefined
    return isPart ? other('raw with an offset or a size') : sourceOfOptions(options['file'] as Options)
  }
  if (driver === 'nbd') return sourceOfServer(options)
  if (FILE_DRIVERS.has(String(driver))) return { kind: 'file', path: String(options['filename']) }
  return other(String(driver))
}

function sourceOfServer(options: Options): Source {
  const server = options['server'] as Options
  const exportName = typeof options['export'] === 'string' ? options['export'] : ''
  if (server['type'] === 'unix') {
    return {
      kind: 'nbd',
      uri: { address: { transport: 'unix', path: String(server['path']) }, exportName, tls: false },
    }
  }
  if (server['type'] !== 'inet') return other('nbd')
  const address = { transport: 'tcp', host: String(server['host']), port: Number(server['port']) } as const
  return { kind: 'nbd', uri: { address, exportName, tls: options['tls-creds'] !== undefined } }
}

/** `{"server.type": "unix"}` is `{"server": {"type": "unix"}}`. */
function unflatten(options: Options): Options {
  const nested: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(options)) {
    const [first = '', ...rest] = key.split('.')
    if (rest.length === 0) nested[first] = isOptions(value) ? unflatten(value) : value
    else nested[first] = { ...(nested[first] as Options | undefined), [rest.join('.')]: value }
  }
  for (const [key, value] of Object.entries(nested)) if (isOptions(value)) nested[key] = unflatten(value)
  return nested
}

const isOptions = (value: unknown): value is Options =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** For messages, and to compare. */
export function describeSource(source: Source): string {
  if (source.kind === 'file') return source.path
  return source.kind === 'nbd' ? formatNbdUri(source.uri) : `a disk of the driver ${source.what}`
}

/** Whether both mean one export of one server; every server of ours has its export as the default one, too. */
export function isExportOf(uri: NbdUri, server: NbdUri): boolean {
  const isSameServer =
    formatNbdUri({ ...uri, exportName: '', tls: false }) === formatNbdUri({ ...server, exportName: '', tls: false })
  return isSameServer && (uri.exportName === '' || uri.exportName === server.exportName)
}

/** Options of an nbd node for an export. */
export const nbdServerOptions = ({ address, exportName }: NbdUri): Options => ({
  driver: 'nbd',
  server:
    address.transport === 'unix'
      ? { type: 'unix', path: address.path }
      : { type: 'inet', host: address.host, port: String(address.port) },
  export: exportName,
})
