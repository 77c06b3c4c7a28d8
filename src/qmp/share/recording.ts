/**
 * A recording of what went over a shared monitor: a line of JSON for each message, with the message as it was. It is written while
 * others wait for their replies, so it waits for nothing: what a slow disk does not take in time is left out, and counted.
 */

import { createWriteStream, type WriteStream } from 'node:fs'
import { once } from 'node:events'
import type { Log } from '../../util/log.js'

/** `command` comes from a client, `reply` goes to it, `event` goes to all. */
export type Direction = 'command' | 'reply' | 'event'

/** Megabytes that wait for the disk. */
export const RECORDING_QUEUED_BYTES_MAX = 16 * 1024 * 1024

export class Recording {
  readonly #file: WriteStream
  #left = 0
  #isBroken = false

  private constructor(file: WriteStream) {
    this.#file = file
  }

  /** Writes on at the end of a file that exists. @throws Error from the system when it cannot be opened */
  static async open(path: string, log: Log): Promise<Recording> {
    const file = createWriteStream(path, { flags: 'a', mode: 0o600 })
    await once(file, 'open')
    const recording = new Recording(file)
    file.on('error', (error) => {
      recording.#isBroken = true
      log.error(`nothing is recorded any more: ${error.message}`)
    })
    return recording
  }

  /**
   * @param client number of the client; undefined for events, which go to all
   * @param text JSON
   */
  add(direction: Direction, client: number | undefined, text: string): void {
    if (this.#isBroken) return
    if (this.#file.writableLength > RECORDING_QUEUED_BYTES_MAX) {
      this.#left++
      return
    }
    const time = new Date().toISOString()
    if (this.#left > 0) this.#file.write(`${JSON.stringify({ time, left: this.#left })}\n`)
    this.#left = 0
    const head = JSON.stringify({ time, direction, client }).slice(0, -1)
    // Line breaks in JSON are white space: in a string they cannot stand.
    this.#file.write(`${head},"message":${text.trim().replaceAll(/[\r\n]+/g, ' ')}}\n`)
  }

  /** When all is on disk. */
  async close(): Promise<void> {
    if (this.#isBroken) return
    await new Promise<void>((resolve) => {
      this.#file.once('close', resolve).end()
    })
  }
}
