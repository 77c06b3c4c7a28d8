/**
 * The whole product on one bench: a storage daemon whose disk can be made to fail, and the real server process over it,
 * in a short directory of its own. Everything is ended and removed when the test ends, however it ends.
 */

import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { FaultInjector } from '../../qemu/faults.js'
import { RemapServer } from '../../qemu/remap-server.js'
import { StorageDaemon } from '../../qemu/storage-daemon.js'
import { packageRoot } from '../../src/cli/package-version.js'
import { sector, SECTOR_SIZE, type Sector } from '../../src/util/units.js'
import type { Random } from '../../src/util/random.js'
import { run } from './tools.js'

export const PROGRAM = join(packageRoot(), 'dist/src/cli/bin.cjs')
export const BLOCK_SIZE = 4096

export interface Statistics {
  readonly reads: number
  readonly writes: number
  readonly flushes: number
  readonly 'main-write-errors': number
  readonly 'failed-requests': number
}

interface RemapsAnswer {
  readonly remaps: readonly { readonly sectors: number }[]
}

export class Bench {
  readonly directory: string
  readonly #servers: RemapServer[] = []
  #daemon: StorageDaemon | undefined

  private constructor(directory: string) {
    this.directory = directory
  }

  /** Images of these sizes, all zeros: `{ main: 64 * MiB, spare: 16 * MiB }`. */
  static async open(t: Test, sizes: Readonly<Record<string, number>>): Promise<Bench> {
    const bench = new Bench(await mkdtemp(join(tmpdir(), 'nbd-e2e-')))
    t.teardown(() => bench.#close())
    for (const [name, size] of Object.entries(sizes)) {
      const file = await open(bench.image(name), 'w')
      await file.truncate(size)
      await file.close()
    }
    return bench
  }

  image(name: string): string {
    return join(this.directory, `${name}.img`)
  }

  /** Starts the storage daemon with these disks, or starts it again. The disks are healthy then. */
  async startDaemon(...names: readonly string[]): Promise<StorageDaemon> {
    const disks = names.map((name) => ({ name, file: this.image(name) }))
    this.#daemon = await StorageDaemon.start({ directory: this.directory, disks })
    return this.#daemon
  }

  async startServer(options: {
    readonly main: string
    readonly spare: string
    readonly listen?: string
    readonly args?: readonly string[]
  }): Promise<RemapServer> {
    const server = await RemapServer.start({ program: PROGRAM, directory: this.directory, ...options })
    this.#servers.push(server)
    return server
  }

  async #close(): Promise<void> {
    // By force: the test has stopped in good order what it cares about.
    for (const server of this.#servers) await server.killAll()
    await this.#daemon?.kill()
    await rm(this.directory, { recursive: true, force: true })
  }
}

/** A disk on which more and more blocks cannot be written any more: drawn at random, never the same one twice. */
export class DecayingDisk {
  readonly #random: Random
  readonly #first: number
  readonly #blocks: readonly number[]
  #injector: FaultInjector
  #bad = 0

  /** @param range of blocks that may go bad */
  constructor(random: Random, injector: FaultInjector, range: { readonly first: number; readonly end: number }) {
    this.#random = random
    this.#injector = injector
    this.#first = range.first
    this.#blocks = random.shuffle(Array.from({ length: range.end - range.first }, (_, n) => n))
  }

  /** How many blocks are bad. */
  get bad(): number {
    return this.#bad
  }

  /** So many more blocks go bad, at one of their sectors each. */
  async decay(count: number): Promise<void> {
    const blocks = this.#blocks.slice(this.#bad, this.#bad + count)
    this.#bad += count
    await this.#injector.add(blocks.map((block) => ({ sector: this.#sectorIn(block), operation: 'write' as const })))
  }

  /** The same blocks are bad on the disk as another storage daemon serves it. */
  async moveTo(injector: FaultInjector): Promise<void> {
    const { rules } = this.#injector
    this.#injector = injector
    await injector.set(rules)
  }

  #sectorIn(block: number): Sector {
    const perBlock = BLOCK_SIZE / SECTOR_SIZE
    return sector((this.#first + block) * perBlock + this.#random.below(perBlock))
  }
}

/** Number of remapped blocks. */
export async function countRemaps(server: RemapServer): Promise<number> {
  const { remaps } = await server.ask<RemapsAnswer>('query-remaps', { limit: 1_000_000 })
  return remaps.reduce((sum, { sectors }) => sum + (sectors * SECTOR_SIZE) / BLOCK_SIZE, 0)
}

/** Asserts that `nbd-remap verify` finds nothing wrong with a spare that nobody serves. */
export async function assertIntact(t: Test, spare: string): Promise<void> {
  const { status, stdout, stderr } = await run(process.execPath, PROGRAM, 'verify', '--spare', spare, '--json')
  const { problems, clean } = JSON.parse(stdout === '' ? '{}' : stdout) as { problems?: string[]; clean?: boolean }
  t.same({ status, problems, clean, stderr }, { status: 0, problems: [], clean: true, stderr: '' })
}
