/**
 * Real NBD servers as scoped resources of a test: started in a directory of their own, ready when the helper returns,
 * killed and cleared away in the test's teardown.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { NbdClient } from '../../src/nbd/client.js'

const START_TIMEOUT_MS = 20_000
const START_POLL_MS = 5

/** A command line that serves an export on `socket`. */
type CommandLine = (socket: string) => readonly [program: string, ...args: string[]]

export class UpstreamServer {
  readonly socket: string
  readonly uri: string
  readonly #command: CommandLine
  #process: ChildProcess | undefined
  #exited: Promise<unknown> = Promise.resolve()
  #stderr = ''

  /** @param asReached what is to be done to the plain URI so that a client gets in */
  constructor(
    readonly directory: string,
    exportName: string,
    command: CommandLine,
    asReached: (uri: string) => string = (uri) => uri,
  ) {
    this.socket = join(directory, 's')
    this.uri = asReached(`nbd+unix:///${exportName}?socket=${this.socket}`)
    this.#command = command
  }

  /** Resolves when the server serves its export. */
  async start(): Promise<void> {
    await rm(this.socket, { force: true })
    const [program, ...args] = this.#command(this.socket)
    const child = spawn(program, args, { cwd: this.directory, stdio: ['ignore', 'ignore', 'pipe'] })
    this.#process = child
    this.#stderr = ''
    child.stderr.on('data', (data: Buffer) => (this.#stderr += data.toString()))
    this.#exited = Promise.race([once(child, 'exit'), once(child, 'error')])
    const deadline = Date.now() + START_TIMEOUT_MS
    while (!(await this.#serves())) {
      if (child.exitCode !== null || Date.now() > deadline)
        throw new Error(`${program} does not serve: ${this.#stderr}`)
      await delay(START_POLL_MS)
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal)
  }

  /** Resolves when the process is gone. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.signal(signal)
    await this.#exited
    this.#process = undefined
  }

  async #serves(): Promise<boolean> {
    try {
      const client = await NbdClient.connect(this.uri)
      await client.disconnect()
      return true
    } catch {
      return false
    }
  }
}

/** A directory outside the test's own, whose path is too long for a unix socket. */
export async function socketDirectory(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'nbd-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  return directory
}

export async function startUpstream(
  t: Test,
  exportName: string,
  command: CommandLine,
  asReached?: (uri: string) => string,
): Promise<UpstreamServer> {
  const server = new UpstreamServer(await socketDirectory(t), exportName, command, asReached)
  t.teardown(() => server.kill())
  await server.start()
  return server
}

/** `args` are filters, the plugin and its parameters. */
export const startNbdkit = (t: Test, ...args: string[]): Promise<UpstreamServer> =>
  startUpstream(t, '', (socket) => ['nbdkit', '-f', '-U', socket, ...args])

export async function startQemuNbd(t: Test, image: string, ...args: string[]): Promise<UpstreamServer> {
  return startUpstream(t, 'main', (socket) => {
    return ['qemu-nbd', '-k', socket, '-x', 'main', '-t', '-e', '8', '-f', 'raw', ...args, image]
  })
}

/** Serves the block node `top`, which `blockdevs` define. */
export const startStorageDaemon = (t: Test, ...blockdevs: string[]): Promise<UpstreamServer> =>
  startUpstream(t, 'main', (socket) => [
    'qemu-storage-daemon',
    ...blockdevs.flatMap((blockdev) => ['--blockdev', blockdev]),
    '--nbd-server',
    `addr.type=unix,addr.path=${socket}`,
    '--export',
    'type=nbd,id=e0,node-name=top,name=main,writable=on',
  ])

/** An image file of `size` bytes, each `fill`. */
export async function imageFile(t: Test, size: number, fill = 0): Promise<string> {
  const path = join(await socketDirectory(t), 'image')
  await writeFile(path, Buffer.alloc(size, fill))
  return path
}
