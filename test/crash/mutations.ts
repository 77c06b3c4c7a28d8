/**
 * Ways to break the order of updates, each of which crash exploration must notice. A mutation replaces a text in a compiled
 * file of the product while it is loaded (mutating-loader.ts), so the product has no hooks for them.
 */
export interface Mutation {
  readonly name: string
  /** Below dist/src/. */
  readonly file: string
  /** Stands there exactly once. */
  readonly from: string
  readonly to: string
}

export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'the data of a new remap is not flushed before its slot is written',
    file: 'spare/slots.js',
    from: 'await this.#device.flush();\n                await this.#writePages(',
    to: 'await this.#writePages(',
  },
  {
    name: 'the two copies of a slot page are written without a flush between them',
    file: 'spare/slots.js',
    from: 'try {\n            await this.#device.flush();\n        }',
    to: 'try {\n            if (copy === 1) await this.#device.flush();\n        }',
  },
  {
    name: 'the second copy of a slot page is not written',
    file: 'spare/slots.js',
    from: 'for (const copy of COPIES)\n            await write(copy, without(',
    to: 'for (const copy of [0])\n            await write(copy, without(',
  },
  {
    name: 'nothing is flushed after slot pages',
    file: 'spare/slots.js',
    from: 'try {\n            await this.#device.flush();\n        }',
    to: 'try {\n        }',
  },
  {
    name: 'a copy that missed an update is not noted in the header',
    file: 'spare/slots.js',
    from: 'while (this.#staleSaved !== this.#stale.changes) {',
    to: 'while (false) {',
  },
  {
    name: 'a copy that missed an update is noted after the commit has resolved',
    file: 'spare/slots.js',
    from: 'await this.#saveStale();\n        for (const number of written)',
    to: 'void this.#saveStale();\n        for (const number of written)',
  },
  {
    name: 'a copy that missed an update is not written before the only good one',
    file: 'spare/slots.js',
    from: 'const late = COPIES.map((copy) => pages.filter(({ number }) => this.#stale.has(copy, number)));',
    to: 'const late = [[], []];',
  },
  {
    name: 'of two slot pages the older one is chosen',
    file: 'spare/choose.js',
    from: '(pageSequence(buffer) > pageSequence(best) ? buffer : best)',
    to: '(pageSequence(buffer) < pageSequence(best) ? buffer : best)',
  },
  {
    name: 'slot pages are not repaired at a start',
    file: 'spare/spare.js',
    from: 'await this.slots.repair(this.findings.pages);',
    to: '',
  },
  {
    name: 'of the header copies only the bad ones are rewritten at a start',
    file: 'spare/header.js',
    from: 'for (const copy of badFirst(HEADER_OFFSETS.length, bad)) {',
    to: 'for (const copy of bad.length > 0 ? bad : badFirst(HEADER_OFFSETS.length, bad)) {',
  },
  {
    name: 'all header copies are in flight at once',
    file: 'spare/header.js',
    from: 'await device.flush();\n            written++;',
    to: 'written++;',
  },
  {
    name: 'of the header only one copy is written',
    file: 'spare/header.js',
    from: 'for (const copy of badFirst(HEADER_OFFSETS.length, bad)) {',
    to: 'for (const copy of [0]) {',
  },
  {
    name: 'slots are used before the header says that their pages are initialised',
    file: 'spare/spare.js',
    from: 'await this.#updateHeader({ initialisedPages: pages });',
    to: 'this.#header = { ...this.#header, initialisedPages: pages };',
  },
  {
    name: 'slot pages are used that were not initialised',
    file: 'spare/spare.js',
    from: 'await this.slots.initialise(pages);\n            await this.#updateHeader',
    to: 'void this.slots.initialise(pages);\n            await this.#updateHeader',
  },
  {
    name: 'the table is told before the slot is durable',
    file: 'remap/placement.js',
    from: 'await this.#commit(placed);',
    to: 'void this.#commit(placed);',
  },
  {
    name: 'a slot is committed before its data is written',
    file: 'remap/placement.js',
    from: 'await this.#spare.device.write(this.#spare.dataOffset(slot), remap.content);\n                return slot;',
    to: 'void this.#spare.device.write(this.#spare.dataOffset(slot), remap.content);\n                return slot;',
  },
  {
    name: 'the old slot of a block is retired before the new one is durable',
    file: 'remap/placement.js',
    from: 'await this.#commit(placed);',
    to: 'await this.#retireLater(placed.flatMap(({ remap }) => remap.retires ?? []));\n            await this.#commit(placed);',
  },
  {
    name: 'of two slots for one block the older one is in force',
    file: 'remap/target.js',
    from: 'this.spare.slots.get(other).generation < slot.generation',
    to: 'this.spare.slots.get(other).generation > slot.generation',
  },
  {
    name: 'a flush does not reach the spare',
    file: 'remap/target.js',
    from: 'if (this.#spareDirty) {',
    to: 'if (false) {',
  },
  {
    name: 'FUA does not reach the spare',
    file: 'remap/repair.js',
    from: 'chunks, { fua });\n    }\n    // --- Reads',
    to: 'chunks);\n    }\n    // --- Reads',
  },
  {
    name: 'a lost sector counts as healed before the write that heals it',
    file: 'remap/repair.js',
    from: 'const moved = await this.#writeSpareBlock(piece, chunks, fua);',
    to: 'await placement.setLostMask(piece.slot, left); const moved = await this.#writeSpareBlock(piece, chunks, fua);',
  },
  {
    name: 'lost sectors are forgotten when a block moves',
    file: 'remap/placement.js',
    from: 'mainBlock: block, generation: this.#generation++, lostMask };',
    to: 'mainBlock: block, generation: this.#generation++, lostMask: 0n };',
  },
]
