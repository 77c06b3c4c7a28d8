/**
 * The fault path: what happens to a request after a disk has failed it. The caller holds the range lock exclusively.
 *
 * A failed write is halved until the blocks that are really bad stand alone; they all move to the spare together. A
 * failed read is halved in the same way; of a block that stays bad, what can be read is saved and what cannot is lost,
 * and says so until it is rewritten.
 */
import { DeadlineError } from '../device/deadline.js'
import { DeviceError, NoSpareError, type Device } from '../device/device.js'
import type { SparePool } from '../spare/pool.js'
import { chunksLength, copyChunks, sliceChunks } from '../util/chunks.js'
import type { Log } from '../util/log.js'
import { mainBlock, SECTOR_SIZE, type MainBlock, type SlotNumber } from '../util/units.js'
import type { RemapEventSink } from './events.js'
import { halve, type SparePiece } from './pieces.js'
import { InDoubtError, SpareExhaustedError, type NewRemap, type Placement, type RemapReason } from './placement.js'
import { judge, type ExhaustedPolicy, type ReadPolicy } from './policy.js'
import type { Replica } from './replica.js'
import { rescue, type Rescued } from './rescue.js'
import { countSectors, sectorsCovered, sectorsIn, sectorsTouched } from './sector-mask.js'
import type { Statistics } from './statistics.js'

/** A part of a failed write that lies in one bad block. */
export interface BadWrite {
  readonly offset: number
  readonly chunks: readonly Buffer[]
}

export interface RepairParts {
  readonly main: Device
  readonly pool: SparePool
  readonly placement: Placement
  readonly policy: ReadPolicy
  /** Where lost sectors may be had. */
  readonly replica?: Replica | undefined
  readonly onExhausted: ExhaustedPolicy
  readonly statistics: Statistics
  readonly emit: RemapEventSink
  readonly log: Log
}

const isBadBlock = (error: unknown): error is DeviceError =>
  error instanceof DeviceError && judge(error) === 'bad-block'

/** Space that runs out under a spare is as good as a bad block: what was to be written there goes elsewhere. */
const isBadSpareBlock = (error: unknown): error is DeviceError =>
  isBadBlock(error) || (error instanceof DeviceError && error.code === 'ENOSPC' && error.operation !== 'flush')

export class Repair {
  readonly #parts: RepairParts
  onExhausted: ExhaustedPolicy
  readonly #blockSize: number

  constructor(parts: RepairParts) {
    this.#parts = parts
    this.onExhausted = parts.onExhausted
    this.#blockSize = parts.pool.blockSize
  }

  // --- Writes ------------------------------------------------------------------------------------------------------

  /**
   * A write to main failed with `error`: writes what can be written there and moves the bad blocks to the spare.
   * @throws DeviceError when a bad block could not be moved, or main is gone
   */
  async writeMain(offset: number, chunks: readonly Buffer[], error: DeviceError): Promise<void> {
    const bad = await this.#isolate(offset, chunks, error)
    let action: 'remapped' | 'report' = 'report'
    try {
      const remaps: NewRemap[] = []
      for (const write of bad) remaps.push(await this.#remapOfWrite(write))
      await this.#placeOrFail(remaps, 'write')
      action = 'remapped'
    } finally {
      for (const write of bad) this.#report('main', error, write.offset, chunksLength(write.chunks), action)
    }
  }

  /** The parts of a failed write that fail on their own, too; the others are on main afterwards. */
  async #isolate(offset: number, chunks: readonly Buffer[], error: unknown): Promise<BadWrite[]> {
    if (!isBadBlock(error)) throw error
    const halves = halve(offset, chunksLength(chunks), this.#blockSize)
    if (!halves) return [{ offset, chunks }]
    // To try the halves would mean to wait for each of them.
    if (error instanceof DeadlineError) return this.#blockByBlock(offset, chunks)
    const bad: BadWrite[] = []
    for (const half of halves) {
      const from = half.offset - offset
      const part = sliceChunks(chunks, from, from + half.length)
      try {
        await this.#parts.main.write(half.offset, part)
      } catch (failure) {
        bad.push(...(await this.#isolate(half.offset, part, failure)))
      }
    }
    return bad
  }

  #blockByBlock(offset: number, chunks: readonly Buffer[]): BadWrite[] {
    const writes: BadWrite[] = []
    const end = offset + chunksLength(chunks)
    for (let at = offset; at < end;) {
      const { start, length } = this.#blockAt(at)
      const next = Math.min(start + length, end)
      writes.push({ offset: at, chunks: sliceChunks(chunks, at - offset, next - offset) })
      at = next
    }
    return writes
  }

  async #remapOfWrite(write: BadWrite): Promise<NewRemap> {
    this.#parts.statistics.mainWriteErrors++
    const { block, start, length } = this.#blockAt(write.offset)
    const remap = { block, reason: 'write-error' as const }
    if (chunksLength(write.chunks) === length) return { ...remap, content: write.chunks, lostMask: 0n }
    const rest = await this.#healed(start, await rescue(this.#parts.main, start, length, this.#parts.policy))
    return { ...remap, ...this.#overlay(rest, write.offset - start, write.chunks, write.offset) }
  }

  /**
   * Writes into a remapped block some of whose sectors are lost: sectors written whole are healed.
   * @throws DeviceError EIO when a lost sector is written in part only, for its other bytes are not known
   */
  async writeLost(piece: SparePiece, chunks: readonly Buffer[], fua = false): Promise<void> {
    const { lostMask } = this.#parts.pool.get(piece.slot)
    const left = this.#maskAfterWrite(lostMask, piece.offset, piece.offsetInBlock, piece.length)
    const moved = await this.#writeSpareBlock(piece, chunks, fua)
    if (!moved && left !== lostMask) await this.#setLostMask(piece, left)
  }

  /** Where the slot cannot be written, the block moves to one that can. */
  async #setLostMask(piece: SparePiece, lostMask: bigint): Promise<void> {
    const { pool, placement, policy, log } = this.#parts
    try {
      await placement.setLostMask(piece.slot, lostMask)
    } catch (error) {
      if (!(error instanceof InDoubtError || error instanceof DeviceError)) throw error
      log.error(error.message)
      const { block, length } = this.#blockAt(piece.offset)
      const member = pool.memberOf(piece.slot)
      const held = await rescue(member.spare.device, member.dataOffset(piece.slot), length, policy)
      const remap = { block, content: [held.content], lostMask: lostMask | held.lostMask, frees: piece.slot }
      await this.#placeOrFail([{ ...remap, reason: 'spare-error' }], 'write')
    }
  }

  /**
   * A block whose newest slot may or may not be on the disk gets a fresh one, with what it holds now.
   * @throws DeviceError when there is none
   */
  async settleDoubt(block: MainBlock, slot: SlotNumber | undefined): Promise<void> {
    const { main, pool, policy } = this.#parts
    const { start, length } = this.#blockAt(block * this.#blockSize)
    const reason = 'spare-error' as const
    if (slot === undefined) {
      const { content, lostMask } = await rescue(main, start, length, policy)
      await this.#placeOrFail([{ block, content: [content], lostMask, reason }], 'write')
      return
    }
    const member = pool.memberOf(slot)
    const { content, lostMask } = await rescue(member.spare.device, member.dataOffset(slot), length, policy)
    const remap = { block, content: [content], lostMask: lostMask | pool.get(slot).lostMask, reason, frees: slot }
    await this.#placeOrFail([remap], 'write')
  }

  /** Writes to spare blocks; those that fail are retired and their content moves on. @throws DeviceError */
  async writeSpare(piece: SparePiece, chunks: readonly Buffer[], fua = false): Promise<void> {
    const [first, ...others] = this.#blocksOf(piece)
    if (first && others.length === 0) {
      await this.#writeSpareBlock(first, chunks, fua)
      return
    }
    try {
      await this.#writeSparePlain(piece, chunks, fua)
    } catch (error) {
      if (!(error instanceof DeviceError) || error.operation === 'flush') throw error
      for (const part of this.#blocksOf(piece)) {
        const from = part.offset - piece.offset
        await this.#writeSpareBlock(part, sliceChunks(chunks, from, from + part.length), fua)
      }
    }
  }

  /** @returns whether the block had to move, and its old slot is out of use */
  async #writeSpareBlock(part: SparePiece, chunks: readonly Buffer[], fua: boolean): Promise<boolean> {
    try {
      await this.#writeSparePlain(part, chunks, fua)
      return false
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      if (isBadSpareBlock(error)) await this.#moveOn(part, error, chunks)
      else if (judge(error) === 'gone' && part.length === this.#blockAt(part.offset).length)
        await this.#moveWhole(part, error, chunks)
      else throw error
      return true
    }
  }

  async #writeSparePlain({ slot, offsetInBlock }: SparePiece, chunks: readonly Buffer[], fua: boolean): Promise<void> {
    const member = this.#parts.pool.memberOf(slot)
    await member.write(member.dataOffset(slot) + offsetInBlock, chunks, { fua })
  }

  // --- Reads -------------------------------------------------------------------------------------------------------

  /** Reads from main what a plain read could not. @throws DeviceError for exactly the sectors that are lost */
  async readMain(offset: number, into: Buffer): Promise<void> {
    try {
      await this.#parts.main.read(offset, into)
    } catch (error) {
      if (!isBadBlock(error)) throw error
      const halves = halve(offset, into.length, this.#blockSize)
      if (!halves) {
        await this.#readBadBlock(offset, into, error)
        return
      }
      for (const half of halves) {
        const from = half.offset - offset
        await this.readMain(half.offset, into.subarray(from, from + half.length))
      }
    }
  }

  async #readBadBlock(offset: number, into: Buffer, error: DeviceError): Promise<void> {
    this.#parts.statistics.mainReadErrors++
    const { block, start, length } = this.#blockAt(offset)
    const read = await rescue(this.#parts.main, start, length, this.#parts.policy)
    if (read.lostMask === 0n) this.#parts.statistics.retriedReads++
    const rescued = await this.#healed(start, read)
    const reason: RemapReason = read.lostMask === 0n ? 'weak' : rescued.lostMask === 0n ? 'replica' : 'read-error'
    const lost = sectorsTouched(offset - start, into.length) & rescued.lostMask
    this.#report('main', error, start, length, lost === 0n ? 'recovered' : 'report')
    await this.#placeIfPossible({ block, content: [rescued.content], lostMask: rescued.lostMask, reason })
    this.#deliver(rescued, start, offset, into, error)
  }

  /** Reads from remapped blocks what a plain read could not: lost sectors, or a spare block that fails. */
  async readSpare(piece: SparePiece, into: Buffer): Promise<void> {
    for (const part of this.#blocksOf(piece)) {
      const from = part.offset - piece.offset
      const target = into.subarray(from, from + part.length)
      this.#deliver(await this.#readSpareBlock(part, target), part.offset - part.offsetInBlock, part.offset, target)
    }
  }

  /** The content of the block as far as `part` needs it. */
  async #readSpareBlock(part: SparePiece, into: Buffer): Promise<Rescued> {
    const { pool } = this.#parts
    const member = pool.memberOf(part.slot)
    try {
      await member.spare.device.read(member.dataOffset(part.slot) + part.offsetInBlock, into)
    } catch (error) {
      if (!isBadBlock(error)) throw error
      return await this.#moveOn(part, error, [])
    }
    const { start, length } = this.#blockAt(part.offset)
    const content = Buffer.alloc(length)
    into.copy(content, part.offsetInBlock)
    const { lostMask } = pool.get(part.slot)
    const wanted = sectorsTouched(part.offsetInBlock, into.length) & lostMask
    return { content, lostMask: (lostMask & ~wanted) | (await this.#healSpare(part, start, content, wanted)) }
  }

  /** Brings lost sectors of a remapped block back from the replica. @returns those that stay lost */
  async #healSpare(part: SparePiece, start: number, content: Buffer, wanted: bigint): Promise<bigint> {
    const { pool, placement, main, log } = this.#parts
    const member = pool.memberOf(part.slot)
    const { lostMask: left } = await this.#healed(start, { content, lostMask: wanted })
    const healed = wanted & ~left
    if (healed === 0n || main.readOnly || member.spare.device.readOnly) return left
    try {
      for (const sector of sectorsIn(healed)) {
        const at = sector * SECTOR_SIZE
        await member.write(member.dataOffset(part.slot) + at, [content.subarray(at, at + SECTOR_SIZE)])
      }
      await placement.setLostMask(part.slot, pool.get(part.slot).lostMask & ~healed)
    } catch (error) {
      if (!(error instanceof DeviceError || error instanceof InDoubtError)) throw error
      log.warn(`what the replica has of main sector ${start / SECTOR_SIZE} cannot be kept: ${error.message}`)
    }
    return left
  }

  /** With what the replica has of the sectors that are lost. */
  async #healed(start: number, { content, lostMask }: Rescued): Promise<Rescued> {
    return { content, lostMask: (await this.#parts.replica?.heal(start, content, lostMask)) ?? lostMask }
  }

  /** Hands the rescued bytes to the client, or says which of them are lost. */
  #deliver(rescued: Rescued, start: number, offset: number, into: Buffer, cause?: DeviceError): void {
    const inBlock = offset - start
    const lost = sectorsTouched(inBlock, into.length) & rescued.lostMask
    if (lost !== 0n && this.#parts.policy.onReadError === 'eio') {
      const [first = 0] = sectorsIn(lost)
      const at = Math.max(offset, start + first * SECTOR_SIZE)
      const left = Math.min(SECTOR_SIZE, offset + into.length - at)
      throw new DeviceError('EIO', this.#parts.main.name, 'read', at, left, { cause })
    }
    rescued.content.copy(into, 0, inBlock, inBlock + into.length)
    for (const sector of sectorsIn(lost)) {
      const at = sector * SECTOR_SIZE - inBlock
      into.fill(0, Math.max(0, at), Math.min(into.length, at + SECTOR_SIZE))
    }
    if (lost !== 0n) this.#parts.log.warn(`${countSectors(lost)} lost sector(s) near offset ${offset} read as zeros`)
  }

  // --- Both --------------------------------------------------------------------------------------------------------

  /** A spare block failed: what it holds, with `chunks` written over it, moves to another one. */
  async #moveOn(part: SparePiece, error: DeviceError, chunks: readonly Buffer[]): Promise<Rescued> {
    const { pool, statistics, policy } = this.#parts
    statistics.spareErrors++
    const { block, start, length } = this.#blockAt(part.offset)
    const member = pool.memberOf(part.slot)
    const rest = await rescue(member.spare.device, member.dataOffset(part.slot), length, policy)
    const { lostMask } = pool.get(part.slot)
    const held = await this.#healed(start, { content: rest.content, lostMask: rest.lostMask | lostMask })
    const { content, lostMask: stillLost } = this.#overlay(held, part.offset - start, chunks, part.offset)
    this.#report('spare', error, start, length, stillLost === 0n ? 'recovered' : 'report')
    // Where only space is missing the block itself is as good as before.
    const old = error.code === 'ENOSPC' ? { frees: part.slot } : { retires: part.slot }
    const remap: NewRemap = { block, content, lostMask: stillLost, reason: 'spare-error', ...old }
    if (chunks.length > 0) await this.#placeOrFail([remap], 'write')
    else await this.#placeIfPossible(remap)
    return { content: held.content, lostMask: stillLost }
  }

  /** The spare is gone, but nothing of what it held is needed: the write covers the whole block. */
  async #moveWhole(part: SparePiece, error: DeviceError, chunks: readonly Buffer[]): Promise<void> {
    this.#parts.statistics.spareErrors++
    const { block, start, length } = this.#blockAt(part.offset)
    const remap = { block, content: chunks, lostMask: 0n, reason: 'spare-error' as const, frees: part.slot }
    await this.#placeOrFail([remap], 'write')
    this.#report('spare', error, start, length, 'recovered')
  }

  /** `held` with `chunks` written at `inBlock`. */
  #overlay(
    held: Rescued,
    inBlock: number,
    chunks: readonly Buffer[],
    offset: number,
  ): { content: readonly Buffer[]; lostMask: bigint } {
    const lostMask = this.#maskAfterWrite(held.lostMask, offset, inBlock, chunksLength(chunks))
    copyChunks(chunks, held.content, inBlock)
    return { content: [held.content], lostMask }
  }

  #maskAfterWrite(lostMask: bigint, offset: number, inBlock: number, length: number): bigint {
    const covered = sectorsCovered(inBlock, length, this.#blockAt(offset).length)
    const torn = sectorsTouched(inBlock, length) & lostMask & ~covered
    if (torn !== 0n) throw new DeviceError('EIO', this.#parts.main.name, 'write', offset, length)
    return lostMask & ~covered
  }

  async #placeOrFail(remaps: readonly NewRemap[], operation: 'read' | 'write'): Promise<void> {
    const [first] = remaps
    if (!first) return
    try {
      await this.#parts.placement.place(remaps)
    } catch (error) {
      if (!(error instanceof SpareExhaustedError || error instanceof InDoubtError)) throw error
      this.#parts.log.error(`${remaps.length} bad block(s) cannot be remapped: ${error.message}`)
      const offset = first.block * this.#blockSize
      // QEMU pauses the machine on ENOSPC, until an operator has added a spare and continues it.
      const code = operation === 'write' && this.onExhausted === 'pause' ? 'ENOSPC' : 'EIO'
      const { name } = this.#parts.main
      if (error instanceof InDoubtError)
        throw new DeviceError(code, name, operation, offset, this.#blockSize, { cause: error })
      throw new NoSpareError(code, name, operation, offset, this.#blockSize, remaps.length, { cause: error })
    }
  }

  /** For reads: a block that finds no place is rescued again the next time. */
  async #placeIfPossible(remap: NewRemap): Promise<void> {
    if (this.#parts.main.readOnly) return
    try {
      await this.#placeOrFail([remap], 'read')
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      this.#parts.log.warn(`block ${remap.block} stays where it is: ${error.message}`)
    }
  }

  #blockAt(offset: number): { block: MainBlock; start: number; length: number } {
    const block = mainBlock(Math.floor(offset / this.#blockSize))
    const start = block * this.#blockSize
    return { block, start, length: Math.min(this.#blockSize, this.#parts.main.size - start) }
  }

  /** A piece that spans several spare blocks, block by block. */
  *#blocksOf(piece: SparePiece): Generator<SparePiece> {
    const end = piece.offset + piece.length
    let slot = piece.slot
    for (let at = piece.offset; at < end; slot++) {
      const { start, length } = this.#blockAt(at)
      const next = Math.min(start + length, end)
      yield { ...piece, offset: at, length: next - at, slot, offsetInBlock: at - start }
      at = next
    }
  }

  #report(
    disk: 'main' | 'spare',
    error: DeviceError,
    offset: number,
    length: number,
    action: 'remapped' | 'recovered' | 'report',
  ): void {
    const sector = Math.floor(offset / SECTOR_SIZE)
    const sectors = Math.ceil((offset + length) / SECTOR_SIZE) - sector
    const { operation, code, fault } = error
    const injected = fault === undefined ? {} : { fault }
    this.#parts.emit('IO_ERROR', { disk, operation, sector, sectors, error: code, action, ...injected })
  }
}
