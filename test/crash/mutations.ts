/**
 * Ways to break the order of updates, each of which crash exploration must notice. A mutation replaces a text in a compiled
 * file of the product while it is loaded (mutating-loader.ts), so the product has no hooks for them.
 */
import type { Shape, Step } from './steps.js'

export interface Mutation {
  readonly name: string
  /** Below dist/src/. */
  readonly file: string
  /** Stands there exactly once. */
  readonly from: string
  readonly to: string
  /** A history that notices it, of those that a seed draws or step by step. */
  readonly history: string | readonly Step[]
}

/** For histories step by step. Slots stand beyond the first sector of their page, so that the page can be torn. */
export const SHAPE: Shape = { blockSize: 1024, sectors: 8, slots: 100, firstSlot: 40 }

/** The same with another spare in the pool, for steps that need one. */
export const POOL_SHAPE: Shape = { ...SHAPE, second: { slots: 5, isMember: true } }

const range = { sector: 0, sectors: 2 }
const writes: Step = { do: 'write', ...range, fua: false, inset: 0 }
const mainFault: Step = { do: 'main-fault', operations: ['write'], ...range }

export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'the data of a new remap is not flushed before its slot is written',
    file: 'spare/slots.js',
    from: 'await this.#device.flush();\n                await this.#writePages(',
    to: 'await this.#writePages(',
    history: 'mutation/1',
  },
  {
    name: 'the two copies of a slot page are written without a flush between them',
    file: 'spare/slots.js',
    from: 'try {\n            await this.#device.flush();\n        }',
    to: 'try {\n            if (copy === 1) await this.#device.flush();\n        }',
    history: [mainFault, writes, { ...mainFault, sector: 2 }, { ...writes, sector: 2 }, writes],
  },
  {
    name: 'the second copy of a slot page is not written',
    file: 'spare/slots.js',
    from: 'for (const copy of COPIES)\n            await write(copy, without(',
    to: 'for (const copy of [0])\n            await write(copy, without(',
    history: 'mutation/2',
  },
  {
    name: 'nothing is flushed after slot pages',
    file: 'spare/slots.js',
    from: 'try {\n            await this.#device.flush();\n        }',
    to: 'try {\n        }',
    history: 'mutation/0',
  },
  {
    name: 'a copy that missed an update is not noted in the header',
    file: 'spare/slots.js',
    from: 'while (this.#staleSaved !== this.#stale.changes) {',
    to: 'while (false) {',
    history: [
      { do: 'metadata-fault', spare: 'spare', structure: 'page', operations: ['write'], copy: 1, page: 0 },
      mainFault,
      writes,
      { ...mainFault, sector: 2 },
      { ...writes, sector: 2 },
      { do: 'read', ...range },
    ],
  },
  {
    name: 'a copy that missed an update is not written before the only good one',
    file: 'spare/slots.js',
    from: 'const first = COPIES.map((copy) => pages.filter(({ number }) => this.#comesFirst(copy, number)));',
    to: 'const first = [[], []];',
    history: [
      { do: 'metadata-fault', spare: 'spare', structure: 'page', operations: ['write'], copy: 1, page: 0 },
      mainFault,
      writes,
      { do: 'heal' },
      mainFault,
      { ...mainFault, sector: 2 },
      { ...writes, sector: 2 },
    ],
  },
  {
    name: 'of two slot pages the older one is chosen',
    file: 'spare/choose.js',
    from: '(pageSequence(buffer) > pageSequence(best) ? buffer : best)',
    to: '(pageSequence(buffer) < pageSequence(best) ? buffer : best)',
    history: [0, 2, 4, 6].flatMap((sector): Step[] => [
      { ...mainFault, sector, sectors: sector === 6 ? 1 : 2 },
      { ...writes, sector },
    ]),
  },
  {
    name: 'slot pages are not repaired at a start',
    file: 'spare/spare.js',
    from: 'await this.slots.repair(this.findings.pages);',
    to: '',
    history: 'mutation/0',
  },
  {
    name: 'of the header copies only the bad ones are rewritten at a start',
    file: 'spare/header.js',
    from: 'for (const copy of badFirst(HEADER_OFFSETS.length, bad)) {',
    to: 'for (const copy of bad.length > 0 ? bad : badFirst(HEADER_OFFSETS.length, bad)) {',
    history: 'mutation/6',
  },
  {
    name: 'all header copies are in flight at once',
    file: 'spare/header.js',
    from: 'await device.flush();\n            written++;',
    to: 'written++;',
    history: 'mutation/0',
  },
  {
    name: 'of the header only one copy is written',
    file: 'spare/header.js',
    from: 'for (const copy of badFirst(HEADER_OFFSETS.length, bad)) {',
    to: 'for (const copy of [0]) {',
    history: 'mutation/0',
  },
  {
    name: 'slots are used before the header says that their pages are initialised',
    file: 'spare/spare.js',
    from: 'await this.update({ initialisedPages: pages });',
    to: 'this.#header = { ...this.#header, initialisedPages: pages };',
    history: 'mutation/57',
  },
  {
    name: 'slot pages are used that were not initialised',
    file: 'spare/spare.js',
    from: 'await this.slots.initialise(pages);\n            await this.update(',
    to: 'void this.slots.initialise(pages);\n            await this.update(',
    history: 'mutation/57',
  },
  {
    name: 'the table is told before the slot is durable',
    file: 'remap/placement.js',
    from: 'const failures = await this.#pool.commit(placed.map(',
    to: 'const failures = []; void this.#pool.commit(placed.map(',
    history: 'mutation/4',
  },
  {
    name: 'a slot is committed before its data is written',
    file: 'remap/placement.js',
    from: 'await member.spare.device.write(',
    to: 'void member.spare.device.write(',
    history: [mainFault, writes, { ...mainFault, sector: 2 }, { ...writes, sector: 2 }, writes],
  },
  {
    name: 'the old slot of a block is retired before the new one is durable',
    file: 'remap/placement.js',
    from: 'const failures = await this.#pool.commit(placed.map(',
    to: 'await this.#outOfUse(placed.flatMap(({ remap: { block, retires: slot } }) => slot === undefined ? [] : [{ slot, state: RETIRED, block }]));\nconst failures = await this.#pool.commit(placed.map(',
    history: [mainFault, writes, { do: 'flush' }, { do: 'spare-fault', operations: ['write'], nth: 0 }, writes],
  },
  {
    name: 'a spare is in the pool before it is formatted',
    file: 'spare/pool.js',
    from: 'await Spare.format(device, ',
    to: 'await this.#tell(this.#members, record); await Spare.format(device, ',
    history: [
      { do: 'drain', spare: 'second' },
      { do: 'join', spare: 'second' },
    ],
  },
  {
    name: 'a flush does not reach the spare',
    file: 'spare/pool.js',
    from: 'if (this.#isDirty) {',
    to: 'if (false) {',
    history: [mainFault, writes, writes, { do: 'flush' }, { do: 'flush' }],
  },
  {
    name: 'FUA does not reach the spare',
    file: 'remap/repair.js',
    from: '+ offsetInBlock, chunks, { fua });',
    to: '+ offsetInBlock, chunks);',
    history: [mainFault, writes, { ...writes, sectors: 4, fua: true }, { do: 'read', ...range }],
  },
  {
    name: 'a lost sector counts as healed before the write that heals it',
    file: 'remap/repair.js',
    from: 'const moved = await this.#writeSpareBlock(piece, chunks, fua);',
    to: 'await this.#setLostMask(piece, left); const moved = await this.#writeSpareBlock(piece, chunks, fua);',
    history: [
      { ...mainFault, operations: ['read'] },
      { do: 'read', ...range },
      { ...writes, sectors: 1 },
    ],
  },
  {
    name: 'lost sectors are forgotten when a block moves',
    file: 'remap/placement.js',
    from: 'mainBlock: block, generation: this.#generation++, lostMask };',
    to: 'mainBlock: block, generation: this.#generation++, lostMask: 0n };',
    history: [
      { ...mainFault, operations: ['read'] },
      { do: 'read', ...range },
    ],
  },
  {
    name: 'a server does not look whether the spare is still its own',
    file: 'spare/spare.js',
    from: 'return page.equals(expected) ?',
    to: 'return true ?',
    history: [mainFault, writes, { ...mainFault, sector: 2 }, { do: 'take-over', block: 1 }],
  },
  {
    name: 'a spare block is written before it is looked whether the spare is still its own',
    file: 'remap/placement.js',
    from: 'await member.spare.confirmOwner();',
    to: '',
    history: [mainFault, writes, { ...mainFault, sector: 2 }, { do: 'take-over', block: 1 }],
  },
  {
    name: 'a slot is freed before what it held is durable on main',
    file: 'remap/remap-remove.js',
    from: 'await this.#parts.main.flush();',
    to: '',
    history: [mainFault, writes, { do: 'flush' }, { do: 'heal' }, { do: 'remove', block: 0, blocks: 1 }],
  },
]
