/** What targets are called: by the name that was given, or by the program that answers, numbered when there are several. */
import { UsageError } from '../../src/util/errors.js'
import { parseAddress, type QmpAddress } from '../../src/qmp/transport.js'

export interface TargetArgument {
  readonly name: string | undefined
  readonly address: QmpAddress
}

const NAME = /^([A-Za-z][\w-]*)=(.+)$/s

/**
 * `ADDRESS` or `NAME=ADDRESS`. A relative path with such a beginning is written `./NAME=...`.
 * @param token for WebSockets
 */
export function parseTarget(text: string, token?: string): TargetArgument {
  const [, name, rest] = NAME.exec(text) ?? []
  return { name, address: parseAddress(rest ?? text, token) }
}

/** @throws UsageError when two were given the same name */
export function nameTargets(
  targets: readonly { readonly name: string | undefined; readonly program: string }[],
): string[] {
  const taken = new Set<string>()
  for (const { name } of targets) {
    if (name === undefined) continue
    if (taken.has(name)) throw new UsageError(`two targets cannot both be called ${name}`)
    taken.add(name)
  }
  return targets.map(({ name, program }) => {
    if (name !== undefined) return name
    let free = program
    for (let number = 2; taken.has(free); number++) free = `${program}${number}`
    taken.add(free)
    return free
  })
}
