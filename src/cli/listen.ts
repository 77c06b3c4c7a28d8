/** Listening sockets as options ask for them: what cannot be had is told with the option that changes it. */
import type { Socket } from 'node:net'
import { ListenError, Listener, type BoundAddress, type ListenAddress } from '../server/listener.js'
import { messageOf } from '../util/errors.js'
import type { Log } from '../util/log.js'
import { SocketPathError } from '../util/socket-path.js'

/** Where NBD clients connect. More than one place can only be passed in. */
export type ClientAddresses = readonly [ListenAddress, ...ListenAddress[]]

export interface ClientListeners {
  /** The first one. */
  readonly address: BoundAddress
  close(): void
}

/** The NBD sockets. @throws Error with a sentence for people */
export async function listenForClients(
  [first, ...more]: ClientAddresses,
  admit: (socket: Socket) => void,
  log: Log,
): Promise<ClientListeners> {
  const listener = await listen(first, admit, log)
  const listeners = [listener]
  const close = (): void => {
    for (const each of listeners) each.close()
  }
  try {
    for (const another of more) listeners.push(await listen(another, admit, log))
  } catch (error) {
    close()
    throw error
  }
  return { address: listener.address, close }
}

function listen(address: ListenAddress, admit: (socket: Socket) => void, log: Log): Promise<Listener> {
  const open = (): Promise<Listener> => Listener.open(address, admit, log)
  return 'fd' in address ? open() : advising('path' in address ? '--socket' : '--listen', open)
}

/** @throws Error with what `listen` failed with and the option that would help */
export async function advising<T>(option: string, listen: () => Promise<T>): Promise<T> {
  try {
    return await listen()
  } catch (error) {
    if (!(error instanceof ListenError) && !(error instanceof SocketPathError)) throw error
    throw new Error(`${messageOf(error)}; give another place with ${option}`, { cause: error })
  }
}
