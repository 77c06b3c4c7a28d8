/** Hooks of Node.js that replace a text in one file of the product as it is loaded. */
import type { LoadHook } from 'node:module'
import type { Mutation } from './mutations.js'

let mutation: Mutation | undefined

export function initialize(data: Mutation): void {
  mutation = data
}

/** @throws Error when the text does not stand there exactly once: the mutation has to follow the product */
export const load: LoadHook = async (url, context, nextLoad) => {
  const loaded = await nextLoad(url, context)
  if (!mutation || !url.endsWith(`/dist/src/${mutation.file}`)) return loaded
  const source = loaded.source instanceof Uint8Array ? Buffer.from(loaded.source).toString() : loaded.source
  if (typeof source !== 'string') throw new Error(`${url} has no text to mutate`)
  const parts = source.split(mutation.from)
  if (parts.length !== 2) {
    throw new Error(`${mutation.file} has ${parts.length - 1} places to mutate, not one: ${mutation.from}`)
  }
  return { ...loaded, source: parts.join(mutation.to) }
}
