/**
 * `StorageDaemon`: images served over NBD by one qemu-storage-daemon, with a monitor to change what lies beneath an
 * export while clients stay connected. For each disk there is a chain of nodes: export NAME > raw node NAME > file node.
 *
 * The surprise: `discard=unmap` stands on every node, since a single one without it turns TRIM into a silent no-op.
 */

import path from 'node:path'
import { QmpConnectionError, type QmpClient } from '../src/qmp/index.js'
import { DaemonProcess, READY_TIMEOUT_MS, type Exit } from './process.js'
import { checkSocketPath, QmpListener } from './qmp-listener.js'

export interface StorageDisk {
  /** Name of the NBD export and of the raw node: a letter, then letters, digits or dashes. */
  readonly name: string
  /** An image file that exists. */
  readonly file: string
}

export interface StorageDaemonOptions {
  /** For its sockets: an existing directory with a short path. Two daemons need two directories. */
  readonly directory: string
  readonly disks: readonly StorageDisk[]
}

/** Node names have at most 31 bytes, and ours get a suffix. */
const NAME = /^[A-Za-z][A-Za-z0-9-]{0,15}$/

/** Name of the node that stands for the image of disk `name`. */
export const fileNode = (name: string): string => `${name}-file`

/** Options of the raw node of disk `name`. A reopen has to repeat all of them. */
export const rawNodeOptions = (name: string, child: string): Record<string, string> => ({
  driver: 'raw',
  'node-name': name,
  file: child,
  discard: 'unmap',
})

export class StorageDaemon {
  readonly process: DaemonProcess
  readonly qmp: QmpClient
  /** The unix socket of its NBD server. */
  readonly socketPath: string
  readonly #names: ReadonlySet<string>

  private constructor(process: DaemonProcess, qmp: QmpClient, socketPath: string, names: readonly string[]) {
    this.process = process
    this.qmp = qmp
    this.socketPath = socketPath
    this.#names = new Set(names)
  }

  /**
   * @throws LaunchError with qemu-storage-daemon's own words, for example when an image is missing or locked
   * @throws RangeError when a disk's name or the directory's path does not do
   */
  static async start({ directory, disks }: StorageDaemonOptions): Promise<StorageDaemon> {
    for (const { name } of disks) if (!NAME.test(name)) throw new RangeError(`'${name}' cannot be a disk's name`)
    const socketPath = checkSocketPath(path.join(directory, 'nbd.sock'))
    const listener = await QmpListener.open(path.join(directory, 'storage.qmp'))
    try {
      const args = storageDaemonArgs(disks, socketPath, listener.path)
      const daemon = await DaemonProcess.start({ program: 'qemu-storage-daemon', args })
      const names = disks.map(({ name }) => name)
      try {
        return new StorageDaemon(daemon, await listener.client(daemon, READY_TIMEOUT_MS), socketPath, names)
      } catch (error) {
        await daemon.kill('SIGKILL')
        throw error
      }
    } finally {
      listener.close()
    }
  }

  /** The NBD URI of a disk. */
  uri(name: string): string {
    if (!this.#names.has(name)) throw new RangeError(`there is no disk '${name}'`)
    return `nbd+unix:///${name}?socket=${encodeURI(this.socketPath)}`
  }

  /** Ends it in good order: clients are disconnected, images are flushed. */
  async close(): Promise<Exit> {
    try {
      await this.qmp.execute('quit', {}, { timeoutMs: 5000 })
    } catch (error) {
      // It may be gone before it answers, or have been gone already.
      if (!(error instanceof QmpConnectionError)) throw error
    }
    await this.qmp.close()
    return this.process.close()
  }

  /** SIGKILL: the host that serves the disks loses power. */
  async kill(): Promise<Exit> {
    await this.process.kill('SIGKILL')
    await this.qmp.close()
    return this.process.exited
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/** The monitor comes last, so that its greeting says that all the rest is up. */
function storageDaemonArgs(disks: readonly StorageDisk[], nbdPath: string, qmpPath: string): string[] {
  const json = (value: object): string => JSON.stringify(value)
  return [
    ...disks.flatMap(({ name, file }) => [
      '--blockdev',
      json({ driver: 'file', 'node-name': fileNode(name), filename: path.resolve(file), discard: 'unmap' }),
      '--blockdev',
      json(rawNodeOptions(name, fileNode(name))),
    ]),
    '--nbd-server',
    json({ addr: { type: 'unix', path: nbdPath } }),
    ...disks.flatMap(({ name }) => [
      '--export',
      json({ type: 'nbd', id: `${name}-export`, 'node-name': name, name, writable: true }),
    ]),
    '--chardev',
    `socket,id=qmp,path=${qmpPath.replaceAll(',', ',,')}`,
    '--monitor',
    'chardev=qmp',
  ]
}
