/** MAIN, SPARE and REPLICA as a user writes them: a path, or an NBD URI. */
import { resolve } from 'node:path'
import { isNbdUri } from '../nbd/uri.js'

/** The same location from whatever folder. */
export const resolveLocation = (location: string): string => (isNbdUri(location) ? location : resolve(location))

export { isNbdUri }
