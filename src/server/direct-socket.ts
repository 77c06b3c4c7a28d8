/**
 * A socket that reads into a buffer of ours instead of a new one for each read. Node.js has that (`onread`) for sockets
 * that connect, not for those that were accepted, so the handle moves to a new `net.Socket`. `_handle` and the option
 * `handle` are not documented, though every version of Node.js has them; where that is not so, the caller's socket stays
 * what it is. Nothing else may know of them.
 */

import { Socket, type OnReadOpts, type SocketConstructorOpts } from 'node:net'
import { TLSSocket } from 'node:tls'

interface WithHandle {
  _handle?: { readonly useUserBuffer?: unknown; readonly fd?: unknown } | null
}

interface HandleOptions extends SocketConstructorOpts {
  readonly handle: unknown
  readonly onread: OnReadOpts
}

/** What every read is asked about. */
export interface DirectReads {
  /** Where the next read goes. Asked right after each read. */
  buffer(): Uint8Array
  /** So many bytes have been read into it. */
  onRead(length: number): void
}

/** The file descriptor of a socket, for calls that Node.js does not have; -1, with which they all fail, where there is none. */
export function descriptorOf(socket: Socket): number {
  const fd = (socket as unknown as WithHandle)._handle?.fd
  return typeof fd === 'number' ? fd : -1
}

/**
 * Nobody may use `socket` any more, if another one is returned: that has no listeners, does not flow, and may have begun to
 * read. @returns undefined when `socket` cannot be replaced, and is as it was
 */
export function readDirectly(socket: Socket, reads: DirectReads): Socket | undefined {
  const old = socket as unknown as WithHandle
  const handle = old._handle
  // What is still to be written, or was read and not consumed, would be lost with the old one.
  const isBusy = socket.destroyed || socket.writableLength > 0 || socket.readableLength > 0 || socket.readableEnded
  if (socket instanceof TLSSocket || isBusy || typeof handle?.useUserBuffer !== 'function') return undefined
  const options: HandleOptions = {
    handle,
    allowHalfOpen: true,
    readable: true,
    writable: true,
    onread: {
      buffer: () => reads.buffer(),
      callback: (length) => {
        reads.onRead(length)
        return true
      },
    },
  }
  old._handle = null
  const direct = new Socket(options)
  // It has no handle to close, but whoever accepted it counts it.
  socket.destroy()
  return direct
}
