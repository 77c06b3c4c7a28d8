/** `LabDisk`: an image in the lab's directory and, if it is reached that way, the storage daemon that serves it. */
import { copyFile, constants, mkdir, open, stat, truncate } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import path from 'node:path'
import { operationsOf, parseSectors, parseWithin } from '../../src/faults/parse.js'
import type { FaultRule as Rule } from '../../src/faults/vocabulary.js'
import type { Random } from '../../src/util/random.js'
import { sector, SECTOR_SIZE } from '../../src/util/units.js'
import { FaultInjector, type FaultRule } from '../faults.js'
import type { NbdSource } from '../machine.js'
import type { DiskSettings } from '../scenario/format.js'
import type { Damage } from '../scenario/format-steps.js'
import { StorageDaemon } from '../storage-daemon.js'
import { follow, type EventLog } from './events.js'
import { LabError } from './error.js'

/** Of the guest's file system, and of the remapper. */
const SECTORS_PER_BLOCK = 4096 / SECTOR_SIZE

export class LabDisk {
  readonly name: string
  /** The image. */
  readonly file: string
  readonly settings: DiskSettings
  readonly #directory: string
  readonly #events: EventLog
  #daemon: StorageDaemon | undefined
  #faults: FaultInjector | undefined
  #rules: readonly FaultRule[] = []

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

  /** @returns the rules that it came to */
  async fault(rule: Rule, random: Random): Promise<readonly FaultRule[]> {
    const rules = faultRules(rule, (await stat(this.file)).size, random)
    await this.#injector.add(rules)
    this.#rules = this.#injector.rules
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
    return this.#daemon?.process.log() ?? ''
  }
}

async function makeImage(file: string, { size, image }: DiskSettings, folder: string): Promise<void> {
  if (image !== undefined) await copyFile(path.resolve(folder, image), file, constants.COPYFILE_FICLONE)
  else await (await open(file, 'w')).close()
  if (size !== undefined) await truncate(file, size)
}

/** blkdebug takes Linux errnos. */
const ERRNOS: Readonly<Record<string, number>> = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
}

/** The rules that a fault comes to. What is drawn depends on the seed and the size of the disk alone. */
export function faultRules(rule: Rule, diskSize: number, random: Random): FaultRule[] {
  const operations = operationsOf(rule)
  const [reads, writes] = [operations.includes('read'), operations.includes('write')]
  const times = rule.times === undefined ? {} : { times: rule.times }
  const rest = {
    operation: reads && writes ? 'both' : reads ? 'read' : 'write',
    errno: ERRNOS[rule.errno ?? 'EIO'] ?? ERRNOS['EIO'] ?? 0,
    ...times,
  } as const
  const sectors = faultSectors(rule, Math.floor(diskSize / SECTOR_SIZE), random)
  return sectors === undefined ? [rest] : sectors.map((at) => ({ sector: sector(at), ...rest }))
}

/** Undefined: all of them. */
function faultSectors(rule: Rule, diskSectors: number, random: Random): number[] | undefined {
  const { sector: first, count = 1, sectors, within, 'cluster-sectors': perCluster = SECTORS_PER_BLOCK } = rule
  if (first !== undefined) return upFrom(first, count)
  if (sectors !== undefined) return parseSectors(sectors).flatMap(([from, end]) => upFrom(from, end - from))
  const [start, end] = within === undefined ? [0, diskSectors] : parseWithin(within)
  if (rule['random-sectors'] !== undefined)
    return random.sample(rule['random-sectors'], end - start).map((n) => start + n)
  if (rule.clusters === undefined) return undefined
  const lowest = Math.ceil(start / perCluster)
  const clusters = Math.floor(end / perCluster) - lowest
  if (clusters < rule.clusters)
    throw new LabError(`cannot draw ${rule.clusters} clusters from ${Math.max(0, clusters)}`)
  const drawn = random.sample(rule.clusters, clusters).map((n) => (lowest + n) * perCluster)
  // A request of a file system is whole blocks: it meets the first sector of one whenever it meets the block.
  return perCluster === SECTORS_PER_BLOCK ? drawn : drawn.flatMap((at) => upFrom(at, perCluster))
}

const upFrom = (first: number, count: number): number[] => Array.from({ length: count }, (_, n) => first + n)

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}
