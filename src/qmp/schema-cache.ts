/**
 * Schemas of servers met before, in a folder: QEMU's has 200 KiB, and takes it longer than all else that a short session does.
 * What a version, and the list of commands that the server has, stand for is taken as known; programs of the same version that are
 * built differently differ there.
 *
 * The cache is never in the way: what cannot be read, or is not what was written, is asked of the server, and what cannot be written
 * is not. A file is written beside its place and renamed, so that nobody ever reads a half of it.
 */

import { createHash, randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { cacheDirectory } from '../util/cache-directory.js'
import { QmpCommandError } from './error.js'
import { isObject, type QmpVersion } from './message.js'
import type { QmpPeer } from './peer.js'
import { QmpSchema } from './schema-model.js'

export interface LoadSchemaOptions {
  /** Default `schemaCacheDirectory()`; undefined for no cache. */
  readonly directory?: string | undefined
  readonly timeoutMs?: number
}

/** The oldest ones beyond so many go. */
export const SCHEMAS_CACHED_MAX = 32
/** A file longer than that was not written by us. */
const FILE_BYTES_MAX = 16 * 1024 * 1024

/** `$XDG_CACHE_HOME/nbd-remap/qmp-schema`, or the same below `~/.cache`. */
export function schemaCacheDirectory(env: Readonly<Record<string, string | undefined>> = process.env): string {
  return path.join(cacheDirectory(env), 'qmp-schema')
}

/**
 * The schema of a server, from the cache if it can be.
 * @throws QmpProtocolError when the server's schema is none
 * @throws QmpCommandError, QmpTimeoutError, QmpConnectionError as `execute`
 */
export async function loadSchema(client: QmpPeer, options: LoadSchemaOptions = {}): Promise<QmpSchema> {
  const { directory, timeoutMs } = { directory: schemaCacheDirectory(), ...options }
  const limits = timeoutMs === undefined ? {} : { timeoutMs }
  const ask = (): Promise<unknown> => client.execute('query-qmp-schema', {}, limits)
  const { version } = client.greeting
  if (directory === undefined || !isCached(version)) return QmpSchema.parse(await ask())
  const commands = await client.execute('query-commands', {}, limits).catch((error: unknown) => {
    if (error instanceof QmpCommandError) return undefined
    throw error
  })
  const file = path.join(directory, fileName(version, commands))
  const known = await readSchema(file)
  if (known !== undefined) return known
  const answer = await ask()
  const schema = QmpSchema.parse(answer)
  await writeSchema(file, answer).catch(() => undefined)
  return schema
}

/** Servers of nbd-remap answer at once, and while one is worked on its version does not change with its commands. */
const isCached = ({ package: name }: QmpVersion): boolean => !name.startsWith('nbd-remap')

export function fileName({ qemu, package: name }: QmpVersion, commands: unknown): string {
  const names = (Array.isArray(commands) ? commands : []).map((each: unknown) =>
    isObject(each) ? String(each['name']) : '',
  )
  const digest = sha256(JSON.stringify([name, names.sort()])).slice(0, 16)
  return `${qemu.major}.${qemu.minor}.${qemu.micro}-${digest}.json`
}

/** @returns undefined when it is not there, or not whole */
async function readSchema(file: string): Promise<QmpSchema | undefined> {
  try {
    if ((await stat(file)).size > FILE_BYTES_MAX) return undefined
    const text = await readFile(file, 'utf8')
    const end = text.indexOf('\n')
    const body = text.slice(end + 1)
    return text.slice(0, end) === sha256(body) ? QmpSchema.parse(JSON.parse(body)) : undefined
  } catch {
    return undefined
  }
}

async function writeSchema(file: string, answer: unknown): Promise<void> {
  const directory = path.dirname(file)
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const body = JSON.stringify(answer)
  const unfinished = `${file}.${randomUUID()}`
  try {
    await writeFile(unfinished, `${sha256(body)}\n${body}`, { flag: 'wx', mode: 0o600 })
    await rename(unfinished, file)
  } catch (error) {
    await rm(unfinished, { force: true })
    throw error
  }
  await removeOldest(directory)
}

/** Also what a process that was killed has left unfinished, when its time has come. */
async function removeOldest(directory: string): Promise<void> {
  const files = (await readdir(directory)).map((name) => path.join(directory, name))
  if (files.length <= SCHEMAS_CACHED_MAX) return
  const aged = await Promise.all(files.map(async (file) => ({ file, writtenMs: (await stat(file)).mtimeMs })))
  aged.sort((a, b) => b.writtenMs - a.writtenMs)
  await Promise.all(aged.slice(SCHEMAS_CACHED_MAX).map(({ file }) => rm(file, { force: true })))
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')
