/** One question to a running server over its control socket. */
import { setTimeout as pause } from 'node:timers/promises'
import type { QmpClient } from '../qmp/client.js'
import { messageOf } from '../util/errors.js'

/** The server cannot be asked: there is none, or it went away. */
export class UnreachableError extends Error {
  override name = 'UnreachableError'
}

/**
 * @returns what the command returned, believed to be a `T`
 * @throws Error with a sentence for people
 */
export const ask = <T>(control: string, command: string, args: Record<string, unknown> = {}): Promise<T> =>
  withServer(control, async (client) => (await client.execute(command, args)) as T)

/** The environment variable with the token for WebSockets: arguments are shown to everybody. */
export const TOKEN_VARIABLE = 'NBD_REMAP_TOKEN'

/** For more than one question on one connection. @throws Error with a sentence for people */
export async function withServer<T>(control: string, talk: (client: QmpClient) => Promise<T>): Promise<T> {
  const { QmpClient } = await import('../qmp/client.js')
  const { QmpConnectionError } = await import('../qmp/error.js')
  const { parseAddress } = await import('../qmp/transport.js')
  try {
    const client = await QmpClient.connect(parseAddress(control, process.env[TOKEN_VARIABLE]))
    try {
      return await talk(client)
    } finally {
      await client.close()
    }
  } catch (error) {
    if (!(error instanceof QmpConnectionError)) throw error
    throw new UnreachableError(`no server answers on the control socket ${control}: ${reasonOf(error)}`, {
      cause: error,
    })
  }
}

const REASONS: ReadonlyMap<string, string> = new Map([
  ['ENOENT', 'there is no such socket (is it running, and was it started with this --control?)'],
  ['ECONNREFUSED', 'nobody listens there (is the server still running?)'],
  ['EACCES', 'permission denied (only the user who started the server may ask it)'],
])

/** The operating system's reason lies some causes deep. */
function reasonOf(error: Error): string {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if (cause.message.endsWith('response: 401'))
      return `the token is missing or wrong: the environment variable ${TOKEN_VARIABLE} has to have the one of serve --http`
    const reason = 'code' in cause ? REASONS.get(String(cause.code)) : undefined
    if (reason !== undefined) return reason
  }
  return messageOf(error)
}

export interface ShowOptions {
  readonly control: string
  readonly json?: boolean
  readonly watch?: number
}

/**
 * Shows an answer, once or, with `watch`, every so many seconds for as long as standard output is read. Once there was
 * an answer, a server that is away is waited for: it may be about to be restarted.
 */
export async function show<T>(
  { watch, json }: ShowOptions,
  question: () => Promise<T>,
  describe: (answer: T) => string,
): Promise<void> {
  const print = (answer: T): void => {
    process.stdout.write(json ? `${JSON.stringify(answer)}\n` : describe(answer))
  }
  print(await question())
  while (watch !== undefined && process.stdout.writable) {
    await pause(watch * 1000)
    try {
      print(await question())
    } catch (error) {
      if (!(error instanceof UnreachableError)) throw error
      process.stderr.write(`nbd-remap: ${error.message}\n`)
    }
  }
}
