/** The work of `attach` and `detach`. What is missing is said, and what to use instead: most uses need no block device. */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { isNbdUri, parseNbdUri, type NbdUri } from '../nbd/uri.js'
import { UsageError } from '../util/errors.js'
import { ask } from './ask.js'
import type { AttachOptions } from './attach.js'
import { devicePaths } from './dmsetup/runtime-directory.js'
import { askDevice } from './dmsetup/show.js'

const PROGRAM = 'nbd-client'

interface Status {
  readonly uri: string
}

export async function attach(exported: string | undefined, { control, device }: AttachOptions): Promise<void> {
  const uri = await uriOf(exported, control)
  const to = connectionArguments(parseNbdUri(uri), uri)
  const path = device ?? firstFree(uri)
  if (!existsSync(path)) throw noDriver(path, uri)
  await run([...to.server, path, '-N', to.name, '-b', '512', '-persist'], uri)
  process.stdout.write(`${path}\n`)
}

export async function detach(device: string): Promise<void> {
  if (!existsSync(device)) throw new Error(`there is no ${device}`)
  if (!statSync(device).isBlockDevice())
    throw new UsageError(`${device} is no block device: give what nbd-remap attach has printed, such as /dev/nbd0`)
  await run(['-d', device], undefined)
}

async function uriOf(exported: string | undefined, control: string | undefined): Promise<string> {
  if ((exported === undefined) === (control === undefined))
    throw new UsageError('give the name of a device, an NBD URI, or --control')
  if (control !== undefined) return (await ask<Status>(control, 'query-status')).uri
  if (exported !== undefined && isNbdUri(exported)) return exported
  return (await askDevice<Status>(devicePaths(exported ?? ''), 'query-status')).uri
}

/** @throws Error for an export that nbd-client cannot be told of in a command line like ours */
function connectionArguments({ address, exportName, tls }: NbdUri, uri: string): { server: string[]; name: string } {
  if (tls) throw new Error(`${uri} is encrypted: call nbd-client with its options for certificates`)
  const server = address.transport === 'unix' ? ['-unix', address.path] : [address.host, String(address.port)]
  return { server, name: exportName }
}

/** A device that is in use has the file pid. @throws Error when there is none */
function firstFree(uri: string): string {
  const names = existsSync('/sys/block') ? readdirSync('/sys/block').filter((name) => /^nbd\d+$/.test(name)) : []
  if (names.length === 0) throw noDriver('/dev/nbd0', uri)
  const free = names
    .sort((a, b) => Number(a.slice(3)) - Number(b.slice(3)))
    .find((name) => !existsSync(`/sys/block/${name}/pid`) && sizeOf(name) === 0)
  if (free === undefined) throw new Error(`all of the ${names.length} devices /dev/nbd* are in use`)
  return `/dev/${free}`
}

const sizeOf = (name: string): number => Number(readFileSync(`/sys/block/${name}/size`, 'utf8'))

const noDriver = (path: string, uri: string): Error =>
  new Error(
    `there is no ${path}: the kernel's nbd driver is not loaded ("modprobe nbd" as root loads it, where the kernel has it). ` +
      insteadOf(uri),
  )

const insteadOf = (uri: string): string =>
  `Without it ${uri} can be used by QEMU, nbdcopy, nbdfuse (a file) and every other NBD client`

/** nbd-client says itself what went wrong. @throws Error */
async function run(args: readonly string[], uri: string | undefined): Promise<void> {
  const child = spawn(PROGRAM, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  const exitCode = await new Promise<number | null>((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      reject(error.code === 'ENOENT' ? noProgram(uri) : error)
    })
    child.once('exit', resolve)
  })
  if (exitCode !== 0) throw new Error(`${PROGRAM} ${args.join(' ')} failed (exit code ${exitCode ?? 'none'})`)
}

const noProgram = (uri: string | undefined): Error =>
  new Error(
    `the program ${PROGRAM} is needed: apt-get install nbd-client${uri === undefined ? '' : `. ${insteadOf(uri)}`}`,
  )
