/** The server that a machine's disk goes behind: one that runs, or one that is started for it; and that it has that disk. */
import { statSync } from 'node:fs'
import path from 'node:path'
import { formatNbdUri, isNbdUri, parseNbdUri, type NbdUri } from '../../src/nbd/uri.js'
import type { QmpClient } from '../../src/qmp/index.js'
import { UsageError } from '../../src/util/errors.js'
import type { MachineDisk } from './disk.js'
import { AttachRefusedError } from './errors.js'
import * as parts from './parts.js'
import { describeSource, isExportOf, type Source } from './source.js'
import type { UndoList } from './undo.js'

/** A server that was started for the machine. */
export interface StartedServer {
  readonly status: parts.ServerStatus
  /** Ends it. */
  stop(): Promise<void>
}

/** A server that runs, or how to start one for a main disk. In a rehearsal none is started, only shown. */
export type ServerChoice =
  | { readonly kind: 'running'; readonly uri: NbdUri | undefined; readonly control: QmpClient | undefined }
  | {
      readonly kind: 'start'
      start(main: string): Promise<StartedServer>
      /** Where it will be. */
      readonly uri: NbdUri
      show(main: string): string
    }

interface ServerOptions {
  readonly server: ServerChoice
  readonly copy: boolean
  readonly sameContent: boolean
  readonly telling: parts.Telling
  readonly print?: ((line: string) => void) | undefined
}

/** The disk of the machine, which the server has to have as its main. @returns a path from the root, or an NBD URI */
export function mainOf({ source, label }: MachineDisk, given: string | undefined): string {
  if (source.kind === 'other') {
    throw new AttachRefusedError(
      `${label} is ${describeSource(source)}, and nbd-remap serves plain bytes only: copy it to the export of a server with --copy`,
    )
  }
  const own = describeSource(source)
  const isRelative = source.kind === 'file' && !path.isAbsolute(own)
  if (given === undefined) {
    if (!isRelative) return own
    throw new AttachRefusedError(
      `QEMU calls the disk of ${label} '${own}', which is a path from the folder that QEMU was started in: say with --main where it is`,
    )
  }
  const main = isNbdUri(given) ? formatNbdUri(parseNbdUri(given)) : path.resolve(given)
  if (isRelative ? path.basename(own) === path.basename(main) : isSameDisk(source, main)) return main
  throw new AttachRefusedError(`the disk of ${label} is ${own}, and not ${given}`)
}

function isSameDisk(source: Source, location: string): boolean {
  if (source.kind === 'other') return false
  if (source.kind === 'nbd')
    return isNbdUri(location) && formatNbdUri(source.uri) === formatNbdUri(parseNbdUri(location))
  return !isNbdUri(location) && isSameFile(source.path, location)
}

function isSameFile(a: string, b: string): boolean {
  try {
    const [one, other] = [statSync(a), statSync(b)]
    return one.isBlockDevice() ? one.rdev === other.rdev : one.dev === other.dev && one.ino === other.ino
  } catch {
    return path.resolve(a) === path.resolve(b)
  }
}

/** @returns where the export is */
export async function readyServer(
  undo: UndoList,
  disk: MachineDisk,
  main: string | undefined,
  options: ServerOptions,
): Promise<NbdUri> {
  const { server, print, telling } = options
  if (server.kind === 'start') {
    if (main === undefined)
      throw new UsageError('--copy needs a server that runs (--control), or a disk to copy to (--main)')
    if (print) {
      print(`# ${server.show(main)}`)
      return server.uri
    }
    telling.step(`starting a server for ${main}`)
    const started = await server.start(main)
    undo.push('stop the server that was started', () => started.stop())
    return checkedServer(disk, main, started.status, options)
  }
  if (server.control) return checkedServer(disk, main, await parts.serverStatus(server.control), options, server.uri)
  if (server.uri === undefined) throw new UsageError('say which server: --control, --uri or --spare')
  if (!options.copy && !options.sameContent) {
    throw new AttachRefusedError(
      'without its control socket nobody knows which disk the server has: say --control, or answer for it with --same-content',
    )
  }
  return server.uri
}

/** @throws AttachRefusedError when the machine would see something else through the server than without it */
function checkedServer(
  disk: MachineDisk,
  main: string | undefined,
  status: parts.ServerStatus,
  { copy, sameContent }: ServerOptions,
  uri?: NbdUri,
): NbdUri {
  const served = uri ?? parts.exportOf(status)
  if (disk.source.kind === 'nbd' && isExportOf(disk.source.uri, parts.exportOf(status))) {
    throw new AttachRefusedError(`${disk.label} is behind this server already`)
  }
  if (status.suspended)
    throw new AttachRefusedError('the server is suspended: resume it first (nbd-remap dmsetup resume)')
  if (status['read-only'] && !disk.readOnly) {
    throw new AttachRefusedError('the server serves read-only, and the machine writes to its disk')
  }
  if (copy || sameContent || main === undefined) return served
  if (status.remaps > 0) {
    throw new AttachRefusedError(
      `the server has ${status.remaps} remapped blocks, of which the machine, which uses the disk without it, knows nothing: what it reads would change under it`,
    )
  }
  const { location } = status.main
  const isSame = isNbdUri(location) || isNbdUri(main) ? isSameUri(location, main) : isSameFile(location, main)
  if (isSame) return served
  throw new AttachRefusedError(
    `the disk of ${disk.label} is ${main}, and the server's main disk is ${location}: copy the one to the other with --copy, or say with --same-content that they are the same`,
  )
}

const isSameUri = (a: string, b: string): boolean =>
  isNbdUri(a) && isNbdUri(b) && formatNbdUri(parseNbdUri(a)) === formatNbdUri(parseNbdUri(b))
