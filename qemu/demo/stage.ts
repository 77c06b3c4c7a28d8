/**
 * What the acts play on: images, a storage daemon whose disk can be made to fail, the server, and the machine. Everything
 * that was started is ended by `close`, whatever happened in between.
 */
import { open, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Random } from '../../src/util/random.js'
import { MiB, SECTOR_SIZE, sector, type Sector } from '../../src/util/units.js'
import { FaultInjector } from '../faults.js'
import type { Guest } from '../guest.js'
import { guestImage, type GuestImage } from '../guest-image.js'
import { Machine, type NbdSource } from '../machine.js'
import type { DaemonProcess } from '../process.js'
import type { Timeline } from '../lab/timeline.js'
import { RemapServer } from '../remap-server.js'
import { StorageDaemon } from '../storage-daemon.js'
import { Recording } from './recording.js'

export const MAIN_SIZE = 128 * MiB
export const SPARE_SIZE = 64 * MiB
/** Of the guest's file system and of the remapper. */
export const BLOCK_SIZE = 4096
const SECTORS_PER_BLOCK = BLOCK_SIZE / SECTOR_SIZE

export interface StageOptions {
  /** The nbd-remap program. */
  readonly program: string
  readonly seed?: string
  /** When it fires, everything that runs is killed, and whatever is going on fails. */
  readonly signal?: AbortSignal
}

/** What can be ended by force. */
interface Resource extends AsyncDisposable {
  readonly process: DaemonProcess
}

export class Stage {
  readonly directory: string
  readonly random: Random
  readonly spare: string
  readonly #program: string
  readonly #image: GuestImage
  readonly #daemon: StorageDaemon
  readonly #signal: AbortSignal | undefined
  readonly #resources: Resource[] = []
  #recording = new Recording()

  private constructor(directory: string, options: StageOptions, image: GuestImage, daemon: StorageDaemon) {
    this.directory = directory
    this.random = new Random(options.seed)
    this.spare = path.join(directory, 'spare.img')
    this.#program = options.program
    this.#image = image
    this.#daemon = daemon
    this.#signal = options.signal
    this.#resources.push(daemon)
    options.signal?.addEventListener('abort', this.#killAll)
  }

  static async open(options: StageOptions): Promise<Stage> {
    const image = await guestImage()
    const directory = await mkdtemp(path.join(tmpdir(), 'nbd-remap-demo-'))
    try {
      await makeImage(path.join(directory, 'bare.img'), MAIN_SIZE)
      await makeImage(path.join(directory, 'main.img'), MAIN_SIZE)
      await makeImage(path.join(directory, 'spare.img'), SPARE_SIZE)
      const disks = ['bare', 'main'].map((name) => ({ name, file: path.join(directory, `${name}.img`) }))
      return new Stage(directory, options, image, await StorageDaemon.start({ directory, disks }))
    } catch (error) {
      await rm(directory, { recursive: true })
      throw error
    }
  }

  /** Faults beneath the disk `bare` (used without nbd-remap) or `main` (used with it). */
  faults(disk: 'bare' | 'main'): FaultInjector {
    return new FaultInjector(this.#daemon, disk)
  }

  /** The failing disk itself, without nbd-remap. */
  bareDisk(): NbdSource {
    return { path: this.#daemon.socketPath, exportName: 'bare' }
  }

  async startServer(args: readonly string[] = []): Promise<RemapServer> {
    this.#signal?.throwIfAborted()
    const server = await RemapServer.start({
      program: this.#program,
      directory: this.directory,
      main: this.#daemon.uri('main'),
      spare: this.spare,
      args,
    })
    this.#recording.server(server)
    return this.#keep(server)
  }

  async startMachine(nbd: NbdSource): Promise<{ machine: Machine; guest: Guest }> {
    this.#signal?.throwIfAborted()
    const drives = [{ nodeName: 'disk', source: { nbd } }]
    const machine = this.#keep(await Machine.start({ directory: this.directory, ...this.#image, drives }))
    this.#recording.machine(machine)
    return { machine, guest: await machine.guest() }
  }

  /** What happens is recorded for the report. */
  get recording(): Recording {
    return this.#recording
  }

  get timeline(): Timeline {
    return this.#recording.timeline
  }

  /** From now on a part of its own is recorded. @returns the one that ends here */
  async nextPart(): Promise<Recording> {
    const ended = this.#recording
    await ended.end()
    this.#recording = new Recording()
    return ended
  }

  /** The nbd-remap program. */
  get program(): string {
    return this.#program
  }

  /** For waits that the end of all processes would not end. */
  get abortable(): { signal?: AbortSignal } {
    return this.#signal === undefined ? {} : { signal: this.#signal }
  }

  /** `count` different blocks of the disk, in random order, as their first sectors. */
  drawBlocks(count: number): Sector[] {
    return this.random.sample(count, MAIN_SIZE / BLOCK_SIZE).map(sectorOfBlock)
  }

  async close(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#killAll)
    try {
      for (const resource of this.#resources.reverse()) await resource[Symbol.asyncDispose]()
    } finally {
      this.#killAll()
      await this.#recording.end()
      await rm(this.directory, { recursive: true, force: true })
    }
  }

  #keep<T extends Resource>(resource: T): T {
    this.#resources.push(resource)
    if (this.#signal?.aborted) resource.process.killGroup()
    return resource
  }

  readonly #killAll = (): void => {
    for (const { process } of this.#resources) process.killGroup()
  }
}

export const sectorOfBlock = (block: number): Sector => sector(block * SECTORS_PER_BLOCK)

async function makeImage(file: string, size: number): Promise<void> {
  const handle = await open(file, 'w')
  await handle.truncate(size)
  await handle.close()
}
