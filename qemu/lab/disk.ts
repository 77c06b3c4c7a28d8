/** `LabDisk`: an image in the lab's directory and, if it is reached that way, the storage daemon that serves it. */
import { copyFile, constants, mkdir, open, stat, truncate } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import path from 'node:path'
import type { FaultRule } from '../../src/faults/vocabulary.js'
import { QmpConnectionError } from '../../src/qmp/index.js'
import type { Random } from '../../src/util/random.js'
import { SECTOR_SIZE } from '../../src/util/units.js'
import { sectorRules } from '../blkdebug.js'
import { FaultInjector, type SectorRule } from '../faults.js'
import type { NbdSource } from '../machine.js'
import type { DiskSettings } from '../scenario/format.js'
import type { Damage } from '../scenario/format-steps.js'
import { StorageDaemon } from '../storage-daemon.js'
import { follow, type EventLog } from './events.js'
import { LabError } from './error.js'

export class LabDisk {
  readonly name: string
  /** The image. */
  readonly file: string
  readonly settings: DiskSettings
  readonly #directory: string
  readonly #events: EventLog
  #daemon: StorageDaemon | undefined
  #faults: FaultInjector | undefined
  #rules: readonly SectorRule[] = []

  constructor(
    name: string,
    settings: DiskSettings,
    options: { readonly directory: string; readonly events: EventLog },
  ) {
    this.name = name
    this.settings = settings
    this.file = path.join(options.directory, `${name}.img`)
    this.#directory = path.join(options.directory, name)
    this.#events = options.events
  }

  /** Makes the image. @param folder what `image` is relative to */
  async create(folder: string): Promise<void> {
    await mkdir(this.#directory)
    await makeImage(this.file, this.settings, folder)
  }

  get isUpstream(): boolean {
    return this.settings.via === 'storage-daemon'
  }

  get daemon(): StorageDaemon {
    if (this.#daemon === undefined) throw new LabError(`the storage daemon of disk '${this.name}' does not run`)
    return this.#daemon
  }

  get running(): boolean {
    return this.#daemon?.process.running === true
  }

  /** What nbd-remap is told: the path of the image, or the URI of its export. */
  get address(): string {
    return this.isUpstream ? `nbd+unix:///${this.name}?socket=${encodeURI(this.socketPath)}` : this.file
  }

  /** What QEMU is told. */
  get source(): { readonly nbd: NbdSource } | { readonly file: string } {
    return this.isUpstream ? { nbd: { path: this.socketPath, exportName: this.name } } : { file: this.file }
  }

  /** Of its storage daemon. */
  get socketPath(): string {
    return path.join(this.#directory, 'nbd.sock')
  }

  /** Starts its storage daemon; the faults of before hold again. */
  async start(): Promise<void> {
    if (!this.isUpstream) return
    if (this.running) throw new LabError(`the storage daemon of disk '${this.name}' runs already`)
    const disks = [{ name: this.name, file: this.file }]
    this.#daemon = await StorageDaemon.start({ directory: this.#directory, disks })
    this.#faults = new FaultInjector(this.#daemon, this.name)
    void follow(this.#events, this.name, this.#daemon.qmp)
    if (this.#rules.length > 0) await this.#faults.set(this.#rules)
  }

  /** What is bad now. */
  get rules(): readonly SectorRule[] {
    return this.#rules
  }

  /** While its storage daemon is dead: from the next start on. @returns the rules that it came to */
  async fault(rule: FaultRule, random: Random): Promise<readonly SectorRule[]> {
    const rules = sectorRules(rule, (await stat(this.file)).size, random)
    const injector = this.#injector
    try {
      await injector.add(rules)
      this.#rules = injector.rules
    } catch (error) {
      // Scenarios kill the daemon at any moment; its next start puts all rules.
      if (!(error instanceof QmpConnectionError)) throw error
      this.#rules = [...this.#rules, ...rules]
    }
    return rules
  }

  async clear(): Promise<void> {
    await this.#injector.clear()
    this.#rules = []
  }

  get #injector(): FaultInjector {
    if (this.#faults === undefined)
      throw new LabError(`beneath disk '${this.name}' no faults can be put: it is not 'via: storage-daemon'`)
    return this.#faults
  }

  /** Overwrites the image, behind everybody's back. */
  async damage({ sectors, with: content }: Damage, random: Random): Promise<void> {
    const handle = await open(this.file, 'r+')
    try {
      for (const { first, last } of sectors) {
        const length = (last - first + 1) * SECTOR_SIZE
        const bytes = content === 'zeros' ? Buffer.alloc(length) : random.bytes(length)
        await handle.write(bytes, 0, length, first * SECTOR_SIZE)
      }
    } finally {
      await handle.close()
    }
  }

  async copyTo(other: LabDisk): Promise<void> {
    await copyFile(this.file, other.file, constants.COPYFILE_FICLONE)
  }

  async state(): Promise<{ size: number; allocated: number; sha256: string }> {
    const { size, blocks } = await stat(this.file)
    return { size, allocated: blocks * SECTOR_SIZE, sha256: await sha256(this.file) }
  }

  /** Ends its storage daemon in good order. */
  async quit(): Promise<void> {
    await this.#daemon?.close()
  }

  /** Nothing is flushed. */
  async kill(): Promise<void> {
    await this.#daemon?.kill()
  }

  killNow(): void {
    this.#daemon?.process.killGroup()
  }

  /** Resolves when what `killNow` killed is gone. */
  async gone(): Promise<void> {
    await this.#daemon?.kill()
  }

  /** SIGSTOP or SIGCONT. */
  async signal(signal: 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    await this.daemon.process.kill(signal)
  }

  log(): string {
    return this.#daemon?.process.story() ?? ''
  }
}

async function makeImage(file: string, { size, image }: DiskSettings, folder: string): Promise<void> {
  if (image !== undefined) await copyFile(path.resolve(folder, image), file, constants.COPYFILE_FICLONE)
  else await (await open(file, 'w')).close()
  if (size !== undefined) await truncate(file, size)
}

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}
