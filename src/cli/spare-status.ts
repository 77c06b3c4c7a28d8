/** A spare of a running server, as the control socket shows it and as a line for people. */
import { formatBytes } from '../util/units.js'

/** A member of `spares` in what `query-spares` and `query-status` return. */
export interface SpareStatus {
  readonly name: string
  readonly uuid: string
  readonly location: string
  readonly size: number
  readonly state: 'active' | 'failing' | 'draining'
  readonly 'total-blocks': number
  readonly 'free-blocks': number
  readonly 'remapped-blocks': number
  readonly 'retired-blocks': number
  readonly 'lost-blocks': number
  readonly 'blocks-to-move': number
  readonly 'blocks-moved': number
}

export function describeSpare(spare: SpareStatus, blockSize: number): string {
  const used = spare['total-blocks'] - spare['free-blocks']
  const state =
    spare.state === 'draining'
      ? `, is being removed: ${progressOf(spare)}`
      : spare.state === 'failing'
        ? ', FAILING: its metadata could not be written, or it did not answer'
        : ''
  return `${spare.name}, ${used} of ${spare['total-blocks']} blocks used (${formatBytes(blockSize)} each)${state}`
}

export const progressOf = (spare: SpareStatus): string =>
  `${spare['blocks-moved']} of ${spare['blocks-to-move']} blocks moved`
