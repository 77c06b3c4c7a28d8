/** A connection that is made again when it is lost, more and more rarely while that fails. */
import { setTimeout as pause } from 'node:timers/promises'
import { formatAddress, QmpClient, QmpConnectionError, QmpTimeoutError, type QmpAddress } from '../../src/qmp/index.js'
import { messageOf } from '../../src/util/errors.js'

const PAUSE_MS = 250
const PAUSE_MAX_MS = 5000

export interface LinkOptions {
  readonly address: QmpAddress
  readonly signal: AbortSignal
  /** Uses the connection; it is closed when this ends, and made again. */
  readonly onConnected: (client: QmpClient) => Promise<void>
  /** It was lost, or cannot be made; told once until it is there again. */
  readonly onLost: (reason: string) => void
}

/** Resolves when `signal` fires. @throws whatever `onConnected` throws that is not about the connection */
export async function keepConnected({ address, signal, onConnected, onLost }: LinkOptions): Promise<void> {
  let pauseMs = PAUSE_MS
  let isLost = false
  while (!signal.aborted) {
    try {
      await using client = await QmpClient.connect(address, { signal })
      pauseMs = PAUSE_MS
      isLost = false
      await onConnected(client)
    } catch (error) {
      if (isAborted(signal)) return
      if (!(error instanceof QmpConnectionError || error instanceof QmpTimeoutError)) throw error
      if (!isLost) onLost(messageOf(error) || `${formatAddress(address)} hung up`)
      isLost = true
    }
    await pause(pauseMs, undefined, { signal }).catch(() => undefined)
    pauseMs = Math.min(2 * pauseMs, PAUSE_MAX_MS)
  }
}

/** Asked anew: it may have fired during an await. */
const isAborted = (signal: AbortSignal): boolean => signal.aborted
