/**
 * A remapped disk on a server: main is memory that remembers what it was asked, with a fault injector above it, and the
 * clients see what `nbd-remap serve` would show them. A second export, `readonly`, cannot be written.
 */
import type { Test } from 'tap'
import { pairExport } from '../../src/cli/pair-export.js'
import { FaultyDevice } from './faulty-device.js'
import { MemoryDevice as SpareMemory } from '../../src/device/memory.js'
import type { RemapTarget } from '../../src/remap/target.js'
import type { NbdServerOptions } from '../../src/server/server.js'
import { KiB, MiB } from '../../src/util/units.js'
import { MemoryDevice } from './memory-device.js'
import { serve, type Served } from './nbd-server.js'
import { badSectors, openTarget, pattern } from './rig.js'

export const BLOCK = 4 * KiB
/** A write into this block has moved it to the spare. */
export const REMAPPED_BLOCK = 8
/** Its third and fourth sector could not be read, and are lost. */
export const LOST_BLOCK = 16

export interface ServedPair extends Omit<Served, 'device'> {
  readonly target: RemapTarget
  readonly main: FaultyDevice
  readonly memory: MemoryDevice
}

/** @param size of the main disk, in bytes */
export async function servePair(t: Test, size: number, options: Partial<NbdServerOptions> = {}): Promise<ServedPair> {
  const memory = new MemoryDevice(size)
  pattern(0, size).copy(memory.data)
  const main = new FaultyDevice(memory)
  const target = await openTarget(main, new SpareMemory(9 * MiB), BLOCK)
  await damage(main, target)
  const other = { name: 'readonly', description: '', device: new MemoryDevice(MiB), readOnly: true }
  const served = await serve(t, { exports: [pairExport(target, 'disk'), other], ...options })
  return { ...served, target, main, memory }
}

async function damage(main: FaultyDevice, target: RemapTarget): Promise<void> {
  const sectors = BLOCK / 512
  main.add(badSectors(['write'], REMAPPED_BLOCK * sectors))
  await target.write(REMAPPED_BLOCK * BLOCK, [pattern(REMAPPED_BLOCK * BLOCK, BLOCK)])
  main.add(badSectors(['read'], LOST_BLOCK * sectors + 2, 2))
  // Fails, and remembers why.
  await Promise.resolve(target.read(LOST_BLOCK * BLOCK, Buffer.alloc(BLOCK))).catch(() => undefined)
  main.clear()
}
