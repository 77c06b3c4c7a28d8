/** Listening sockets as options ask for them: what cannot be had is told with the option that changes it. */
import type { Socket } from 'node:net'
import { ListenError, Listener, type ListenAddress } from '../server/listener.js'
import { messageOf } from '../util/errors.js'
import type { Log } from '../util/log.js'
import { SocketPathError } from '../util/socket-path.js'

/** The NBD socket. @throws Error with a sentence for people */
export function listenForClients(address: ListenAddress, admit: (socket: Socket) => void, log: Log): Promise<Listener> {
  return advising('path' in address ? '--socket' : '--listen', () => Listener.open(address, admit, log))
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
