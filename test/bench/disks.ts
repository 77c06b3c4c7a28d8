/**
 * What the servers serve in a job, and the servers, all of them started once:
 *  - `file`: each its own copy of one image, in the page cache;
 *  - `nbd`: an nbdkit with the same content in memory, reached over NBD;
 *  - `slow-file`: one file that takes 5 ms for each read, made of nbdkit's delay filter and FUSE (nbdfuse). It is so big
 *    that random reads hardly ever find a page again that the kernel has cached. FUSE reads at most ten pages at a time.
 */
import { execFile } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { DaemonProcess, findProgram, ProgramNotFoundError } from '../../qemu/index.js'
import { GiB, MiB } from '../../src/util/units.js'
import { blankImage, writeImage } from './images.js'
import { NotRunError, type DiskName } from './job.js'
import { Scope } from './scope.js'
import { startNbdkit, startNbdRemap, startQemuNbd, type BenchServer } from './servers.js'

const SPARE_SIZE = 64 * MiB
const SLOW_SIZE = 64 * GiB
const DELAY = '5ms'
/** Each of nbdkit's threads serves one request at a time, and the delay must not add up. */
const UPSTREAM_THREADS = 64
const NBDFUSE_CONNECTIONS = 8
const MOUNT_POLL_MS = 20

export interface DiskOptions {
  /** Bytes of `file` and `nbd`, a whole number of MiB. */
  readonly size: number
  /** Called before each step, which takes a moment. */
  readonly step: (text: string) => void
}

interface Place extends DiskOptions {
  readonly directory: string
  readonly scope: Scope
}

const STARTERS: Readonly<Record<DiskName, (place: Place) => Promise<BenchServer[]>>> = {
  file: serveFile,
  nbd: serveUpstream,
  'slow-file': serveSlowFile,
}

/** A new directory with a short path, for sockets, that vanishes with `scope`. */
export async function temporaryDirectory(scope: Scope): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'nbd-bench-'))
  scope.defer(() => rm(directory, { recursive: true, force: true }))
  return directory
}

/**
 * Our server and all peers that can serve `disk`; they end with `scope`.
 * @throws NotRunError when this machine cannot have such a disk
 */
export async function startServers(disk: DiskName, scope: Scope, options: DiskOptions): Promise<BenchServer[]> {
  return STARTERS[disk]({ ...options, scope, directory: await temporaryDirectory(scope) })
}

/** A blank spare for our server. */
export const blankSpare = (directory: string): Promise<string> =>
  blankImage(path.join(directory, 'spare.img'), SPARE_SIZE)

async function serveFile({ directory, scope, size, step }: Place): Promise<BenchServer[]> {
  const images: string[] = []
  for (const name of ['nbd-remap', 'nbdkit', 'qemu-nbd']) {
    step(`writing the image of ${name}`)
    images.push(await writeImage(path.join(directory, `${name}.img`), size))
  }
  const [ours = '', nbdkits = '', qemus = ''] = images
  step('starting the servers')
  return [
    scope.use(await startNbdRemap(directory, ours, await blankSpare(directory))),
    scope.use(await startNbdkit(directory, ['file', `file=${nbdkits}`])),
    scope.use(await startQemuNbd(directory, qemus)),
  ]
}

async function serveUpstream({ directory, scope, size, step }: Place): Promise<BenchServer[]> {
  step('filling the upstream')
  const image = await writeImage(path.join(directory, 'content.img'), size)
  const upstream = scope.use(await startNbdkit(directory, ['memory', String(size)], { name: 'upstream' }))
  await promisify(execFile)(findProgram('nbdcopy'), [image, upstream.uri])
  step('starting the servers')
  return [
    scope.use(await startNbdRemap(directory, upstream.uri, await blankSpare(directory))),
    scope.use(await startNbdkit(directory, ['nbd', `uri=${upstream.uri}`])),
  ]
}

async function serveSlowFile({ directory, scope, step }: Place): Promise<BenchServer[]> {
  checkFuse()
  step('starting the servers')
  const delays = [`rdelay=${DELAY}`, `wdelay=${DELAY}`]
  const options = ['--threads', String(UPSTREAM_THREADS), '--filter=delay']
  const upstream = await startNbdkit(directory, ['memory', String(SLOW_SIZE), ...delays], { name: 'upstream', options })
  scope.use(upstream)
  const file = await mount(scope, path.join(directory, 'slow.img'), upstream.uri)
  return [
    scope.use(await startNbdRemap(directory, file, await blankSpare(directory))),
    scope.use(await startNbdkit(directory, ['file', `file=${file}`])),
  ]
}

/** @throws NotRunError saying what is missing */
function checkFuse(): void {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK)
  } catch (cause) {
    throw new NotRunError('/dev/fuse is missing, or this user may not use it', { cause })
  }
  for (const [program, debianPackage] of [
    ['fusermount3', 'fuse3'],
    ['nbdfuse', 'libnbd-bin'],
  ] as const) {
    try {
      findProgram(program)
    } catch (cause) {
      if (!(cause instanceof ProgramNotFoundError)) throw cause
      throw new NotRunError(`${program} is not installed: it is in the Debian package ${debianPackage}`, { cause })
    }
  }
}

/** Lets `file` be what `uri` serves. @throws NotRunError when mounting is not allowed here */
async function mount(scope: Scope, file: string, uri: string): Promise<string> {
  await writeFile(file, '')
  const connections = ['-C', String(NBDFUSE_CONNECTIONS)]
  // A dead nbdfuse leaves a mount point that can be neither used nor removed.
  scope.defer(() => promisify(execFile)('fusermount3', ['-uqz', file]).catch(() => undefined))
  const isMounted = async (signal: AbortSignal): Promise<void> => {
    while ((await stat(file)).size !== SLOW_SIZE && !signal.aborted) await delay(MOUNT_POLL_MS)
  }
  try {
    const ready = (_: DaemonProcess, signal: AbortSignal): Promise<void> => isMounted(signal)
    scope.use(await DaemonProcess.start({ program: 'nbdfuse', args: [...connections, file, uri], ready }))
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.replaceAll(/\s*\n\s*/g, '; ') : String(cause)
    throw new NotRunError(`nbdfuse cannot mount: ${reason}`, { cause })
  }
  return file
}
