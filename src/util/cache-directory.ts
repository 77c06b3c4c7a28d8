/** Where this user's programs keep what can be made again. */
import { homedir } from 'node:os'
import path from 'node:path'

/** `$XDG_CACHE_HOME/nbd-remap`, or the same below `~/.cache`. It may not exist yet. */
export function cacheDirectory(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const given = env['XDG_CACHE_HOME']
  // As the specification of these directories has it, a path that is not absolute does not count.
  const base = given !== undefined && path.isAbsolute(given) ? given : path.join(env['HOME'] ?? homedir(), '.cache')
  return path.join(base, 'nbd-remap')
}
