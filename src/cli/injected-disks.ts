/**
 * The disks of a session with faults beneath everything else: what stands above a rule cannot tell it from a real failure.
 * Only a server that was started with fault injection has them; the disks of all others are opened as ever.
 */
import { InjectedDevice } from '../device/injected.js'
import type { OpenedDisk } from '../device/open.js'
import type { DiskRole, FaultEntry } from '../faults/fault-log.js'
import { FaultInjection, type SpareLayout } from '../faults/injection.js'
import { FaultRuleError, type FaultFile } from '../faults/parse.js'
import type { Pair } from '../remap/pair.js'
import type { Geometry } from '../spare/format.js'
import { readHeader } from '../spare/header.js'
import { messageOf, UsageError } from '../util/errors.js'
import type { Log } from '../util/log.js'
import { TokenBucket } from '../util/token-bucket.js'

export interface FaultChoice {
  readonly seed: string | undefined
  /** When neither the command line nor the file has one. */
  readonly drawnSeed: string
  readonly file: string | undefined
}

/** FAULT_INJECTED events: a disk that is gone is struck thousands of times a second. */
const TOLD_PER_SECOND = 20
const TOLD_BURST = 200

export interface ToldFault extends FaultEntry {
  /** So many before it were not told. */
  readonly untold: number
}

export class InjectedDisks {
  readonly injection: FaultInjection
  readonly #log: Log
  #pair: Pair | undefined
  #dropClients: () => void = () => undefined

  /** @param tell is told of some of the strikes @throws UsageError, Error with a sentence for people */
  static async create(choice: FaultChoice, log: Log, tell: (entry: ToldFault) => void): Promise<InjectedDisks> {
    const file: FaultFile = choice.file === undefined ? { rules: [] } : await readFile(choice.file)
    const disks = new InjectedDisks(choice.seed ?? file.seed ?? choice.drawnSeed, log, tell)
    try {
      // Nothing is open yet: they take force as the disks come.
      disks.injection.inject(file.rules, true)
    } catch (error) {
      throw asUsage(error, choice)
    }
    return disks
  }

  private constructor(seed: string, log: Log, tell: (entry: ToldFault) => void) {
    const bucket = new TokenBucket(TOLD_PER_SECOND, TOLD_BURST)
    let untold = 0
    this.#log = log
    this.injection = new FaultInjection(seed, (entry) => {
      log.debug(describe(entry))
      if (!bucket.take(performance.now())) untold++
      else {
        tell({ ...entry, untold })
        untold = 0
      }
    })
    log.warn(`faults can be injected; to repeat this run: --fault-seed ${seed}`)
  }

  /** Takes the disk over: when it throws, the disk is closed. @throws UsageError when a rule does not fit it */
  async wrap(role: DiskRole, opened: OpenedDisk): Promise<OpenedDisk> {
    const { name, size } = opened.device
    const book = this.injection.newBook(role, name)
    const device = new InjectedDevice(opened.device, book, {
      onDrop: (connection) => {
        if (connection === 'clients') this.#dropClients()
        else opened.dropConnection?.()
      },
      onClosed: () => {
        this.injection.detach(book)
      },
    })
    try {
      const found = role === 'spare' ? await geometryOn(opened) : undefined
      this.injection.attach({
        role,
        name,
        size,
        book,
        isUpstream: opened.dropConnection !== undefined,
        layout: () => layoutOf(this.#geometryOf(name) ?? found),
        settle: () => device.settle(),
        cutPower: () => device.cutPower(),
      })
      return { ...opened, device }
    } catch (error) {
      await opened.device.close()
      throw error instanceof FaultRuleError ? new UsageError(error.message, { cause: error }) : error
    }
  }

  /** Rules that waited for a formatted spare take force. */
  begin(pair: Pair, dropClients: () => void): void {
    this.#pair = pair
    this.#dropClients = dropClients
    this.refresh()
  }

  /** A spare has been added. */
  refresh(): void {
    try {
      this.injection.refresh()
    } catch (error) {
      this.#log.error(`a fault rule is not in force: ${messageOf(error)}`)
    }
  }

  #geometryOf(name: string): Geometry | undefined {
    return this.#pair?.target.pool.members.find((member) => member.name === name)?.spare.geometry
  }
}

async function readFile(path: string): Promise<FaultFile> {
  const { readFaultFile } = await import('../faults/fault-file.js')
  try {
    return await readFaultFile(path)
  } catch (error) {
    throw new UsageError(`--faults ${messageOf(error)}`, { cause: error })
  }
}

const asUsage = (error: unknown, { file }: FaultChoice): unknown =>
  error instanceof FaultRuleError ? new UsageError(`--faults ${file ?? ''}: ${error.message}`, { cause: error }) : error

/** Of a spare that is formatted already. */
async function geometryOn({ device }: OpenedDisk): Promise<Geometry | undefined> {
  const choice = await readHeader(device)
  return choice.kind === 'chosen' ? choice.header.geometry : undefined
}

function layoutOf(geometry: Geometry | undefined): SpareLayout | undefined {
  if (!geometry) return undefined
  return { data: { start: geometry.dataOffset, end: geometry.dataOffset + geometry.slots * geometry.blockSize } }
}

const describe = ({ number, rule, effect, operation, disk, name, offset, length, error }: FaultEntry): string =>
  `fault ${number}: rule ${rule}: ${effect}${error === undefined ? '' : ` ${error}`}: ${operation} of ${disk} ${name}, ` +
  `${length} bytes at offset ${offset}`
