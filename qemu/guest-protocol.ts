/**
 * The guest agent's messages (images/README.md has the protocol). A line that does not end in its dot was cut off when a
 * connection ended, and is no message: running or believing half of it is what the dot is there to prevent.
 */

export interface GuestResult {
  /** As the shell's `$?`: 128 and more is a signal. */
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export type AgentMessage =
  | { readonly type: 'hello'; readonly bootId: string }
  | { readonly type: 'synced'; readonly token: string; readonly bootId: string }
  | { readonly type: 'done'; readonly id: string; readonly result: GuestResult }

const EMPTY = '-'

function encodeText(text: string | Buffer): string {
  const base64 = Buffer.from(text).toString('base64')
  return base64 === '' ? EMPTY : base64
}

function decodeText(word: string): string {
  return word === EMPTY ? '' : Buffer.from(word, 'base64').toString()
}

/** Starts with a line end, which ends the half line that an earlier client may have left. */
export const encodeSync = (token: string): string => `\nsync ${token} .\n`

export const encodeRun = (id: string, command: string, input: string | Buffer): string =>
  `run ${id} ${encodeText(command)} ${encodeText(input)} .\n`

export const encodeKill = (id: string): string => `kill ${id} .\n`

/** `line` is without its line end. Undefined for what is no complete message. */
export function parseAgentLine(line: string): AgentMessage | undefined {
  const [type, first = '', ...rest] = line.split(' ')
  if (rest.pop() !== '.') return undefined
  const [second = '', third = '', fourth = ''] = rest
  switch (`${type ?? ''} ${rest.length}`) {
    case 'hello 0':
      return { type: 'hello', bootId: first }
    case 'synced 1':
      return { type: 'synced', token: first, bootId: second }
    case 'done 3':
      if (!/^\d+$/.test(second)) return undefined
      return {
        type: 'done',
        id: first,
        result: { status: Number(second), stdout: decodeText(third), stderr: decodeText(fourth) },
      }
    default:
      return undefined
  }
}

/** Cuts a stream into lines. Chunks of an unfinished line are kept apart, so that a line of megabytes costs no more. */
export class LineSplitter {
  #unfinished: Buffer[] = []

  /** The lines that `chunk` ends, without their line ends. */
  push(chunk: Buffer): string[] {
    const lines: string[] = []
    let start = 0
    for (;;) {
      const end = chunk.indexOf('\n', start)
      this.#unfinished.push(chunk.subarray(start, end === -1 ? undefined : end))
      if (end === -1) return lines
      lines.push(Buffer.concat(this.#unfinished).toString())
      this.#unfinished = []
      start = end + 1
    }
  }
}
