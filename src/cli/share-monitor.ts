/** What `nbd-remap qmp-share` does. Its sockets are claimed first: an address that cannot be had costs nothing. */
import type { QmpGreeting } from '../qmp/message.js'
import { Recording } from '../qmp/share/recording.js'
import { QmpShare } from '../qmp/share/share.js'
import { parseAddress } from '../qmp/transport.js'
import { writingProblem } from '../util/errors.js'
import { stderrLog, type Log } from '../util/log.js'
import { TOKEN_VARIABLE } from './ask.js'
import type { QmpShareOptions } from './qmp-share.js'
import { openShareSocket, type ShareSocket } from './share-socket.js'
import { Stop } from './stop.js'

/** A monitor greets at once, unless it has another client, or hangs. */
const WAITING_SAID_MS = 2000

/** @throws Error with a sentence for people */
export async function shareMonitor(address: string, options: QmpShareOptions): Promise<void> {
  const stop = Stop.onSignals()
  const log = stderrLog()
  // Sockets and the recording are for their owner alone.
  process.umask(0o177)
  const sockets: ShareSocket[] = []
  try {
    for (const each of options.listen) sockets.push(await openShareSocket(each, log))
    const recording = options.record === undefined ? undefined : await openRecording(options.record, log)
    try {
      await serve(address, options, { sockets, recording, stop, log })
    } finally {
      await recording?.close()
    }
  } finally {
    for (const socket of sockets) socket.close()
  }
}

interface Parts {
  readonly sockets: readonly ShareSocket[]
  readonly recording: Recording | undefined
  readonly stop: Stop
  readonly log: Log
}

async function serve(address: string, options: QmpShareOptions, parts: Parts): Promise<void> {
  const { sockets, recording, stop, log } = parts
  const { reconnect = false, json = false } = options
  const monitor = parseAddress(address, process.env[TOKEN_VARIABLE])
  await using share = new QmpShare({ address: monitor, reconnect, recording, log })
  for (const socket of sockets) socket.open(share)
  const waiting = setTimeout(() => {
    log.info(`waiting for ${address}: no greeting yet`)
  }, WAITING_SAID_MS)
  void share.connected.then(
    (greeting) => {
      clearTimeout(waiting)
      const listening = sockets.map((socket) => socket.text)
      process.stdout.write(json ? toJson(address, greeting, listening) : toText(address, greeting, listening))
    },
    () => undefined,
  )
  const reason = await Promise.race([share.closed, stop.requested.then(() => undefined)])
  clearTimeout(waiting)
  if (reason !== undefined) throw new Error(reason.message, { cause: reason })
}

const toJson = (address: string, { version }: QmpGreeting, listen: readonly string[]): string =>
  `${JSON.stringify({ address, version, listen })}\n`

function toText(address: string, { version }: QmpGreeting, listen: readonly string[]): string {
  const { major, minor, micro } = version.qemu
  const program = version.package.startsWith('nbd-remap') ? version.package : `QEMU ${major}.${minor}.${micro}`
  return `sharing ${address} (${program})\n${listen.map((each) => `listening on ${each}\n`).join('')}`
}

async function openRecording(file: string, log: Log): Promise<Recording> {
  try {
    return await Recording.open(file, log)
  } catch (error) {
    throw new Error(`cannot record to ${file}: ${writingProblem(error)}`, { cause: error })
  }
}
