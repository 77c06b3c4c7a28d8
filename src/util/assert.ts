/**
 * Broken invariants crash: a storage server that has lost track of its own state must not touch a disk any more.
 * Never use these for bad input (typed errors) or bad disks (`DeviceError`).
 */

export class InvariantError extends Error {
  override name = 'InvariantError'
}

/** @throws InvariantError when `condition` is false */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new InvariantError(`invariant broken: ${what}`)
}

/** For the default branch of a switch over a union: the compiler proves that it is never reached. */
export function unreachable(value: never): never {
  throw new InvariantError(`invariant broken: unexpected ${String(value)}`)
}
