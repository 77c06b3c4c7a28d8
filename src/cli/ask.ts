/** One question to a running server over its control socket. */
import { messageOf } from '../util/errors.js'

/**
 * @returns what the command returned, believed to be a `T`
 * @throws Error with a sentence for people
 */
export async function ask<T>(control: string, command: string, args: Record<string, unknown> = {}): Promise<T> {
  const { QmpClient } = await import('../qmp/client.js')
  let client
  try {
    client = await QmpClient.connect(control)
  } catch (error) {
    throw new Error(`no server answers on the control socket: ${messageOf(error)}`, { cause: error })
  }
  try {
    return (await client.execute(command, args)) as T
  } finally {
    await client.close()
  }
}
