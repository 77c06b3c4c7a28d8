/**
 * Cuts a byte stream into JSON texts, for both roles. QEMU ends its messages with CR LF, but clients may send commands
 * without a newline, many in one packet, or one byte at a time, so the cut is made by depth and strings, not by lines.
 *
 * The surprise: what is not JSON at all is cut too (at white space), since it must be answered with an error, and after
 * an over-long or broken text everything up to the next newline is thrown away, so that the stream is in step again.
 */

/** A text to be parsed, or why there is none. */
export type Frame =
  { readonly kind: 'text'; readonly text: string } | { readonly kind: 'broken'; readonly reason: string }

export interface FramingLimits {
  /** Longest JSON text, in bytes. */
  readonly messageBytesMax: number
  /** Deepest nesting: what is deeper could overflow the stack of whoever walks it. */
  readonly depthMax: number
}

const BUFFER_BYTES_KEPT = 64 * 1024

const NEWLINE = 0x0a
const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

const isSpace = (byte: number): boolean => byte === 0x20 || byte === 0x0d || byte === NEWLINE || byte === 0x09
const isOpening = (byte: number): boolean => byte === OPEN_BRACE || byte === OPEN_BRACKET
const isClosing = (byte: number): boolean => byte === CLOSE_BRACE || byte === CLOSE_BRACKET
/** Can stand in no JSON text: control characters, and 0xff, which no UTF-8 text holds. */
const isStray = (byte: number): boolean => (byte < 0x20 && !isSpace(byte)) || byte === 0xff

/**
 * - `between`: white space between texts
 * - `word`: something that does not begin like an object, an array or a string
 * - `value`: inside an object or an array
 * - `string`, `escape`: inside a string, and after its backslash
 * - `skip`: after a broken text, up to the next newline
 */
type State = 'between' | 'word' | 'value' | 'string' | 'escape' | 'skip'

export class JsonSplitter {
  #limits: FramingLimits
  #state: State = 'between'
  #depth = 0
  #buffer = Buffer.allocUnsafe(1024)
  #length = 0

  constructor(limits: FramingLimits) {
    this.#limits = limits
  }

  /** From the next byte on. */
  set limits(limits: FramingLimits) {
    this.#limits = limits
  }

  /** Bytes of an unfinished text: 0 when the stream may end here. */
  get pendingBytes(): number {
    return this.#length
  }

  /** The texts that `chunk` completes. Take them all before the next push. */
  *push(chunk: Uint8Array): Generator<Frame, void, void> {
    for (let at = 0; at < chunk.length; at++) {
      if (this.#state === 'skip') {
        // A line may be as long as the client likes: what is thrown away must cost next to nothing.
        const newline = chunk.indexOf(NEWLINE, at)
        if (newline < 0) return
        at = newline
      }
      const byte = chunk[at] ?? 0
      // A word has no end of its own: the byte that ends it may begin the next text.
      if (this.#state === 'word' && (isSpace(byte) || isOpening(byte))) yield this.#take()
      const frame = this.#step(byte)
      if (frame !== undefined) yield frame
    }
  }

  /** The last word, when the stream has ended without white space after it. */
  end(): Frame | undefined {
    if (this.#state === 'word') return this.#take()
    if (this.#length === 0) return undefined
    return this.#break('unexpected end of input', NEWLINE)
  }

  #step(byte: number): Frame | undefined {
    switch (this.#state) {
      case 'skip':
        if (byte === NEWLINE) this.#state = 'between'
        return undefined
      case 'between':
        return isSpace(byte) ? undefined : this.#begin(byte)
      case 'word':
        return this.#keep(byte)
      case 'value':
        return this.#inValue(byte)
      case 'string':
        return this.#inString(byte)
      case 'escape':
        this.#state = 'string'
        return this.#keep(byte)
    }
  }

  #begin(byte: number): Frame | undefined {
    if (isOpening(byte)) return this.#inValue(byte)
    this.#state = byte === QUOTE ? 'string' : 'word'
    return this.#keep(byte)
  }

  #inValue(byte: number): Frame | undefined {
    if (isStray(byte)) return this.#break(`stray byte 0x${byte.toString(16).padStart(2, '0')}`, byte)
    this.#state = byte === QUOTE ? 'string' : 'value'
    if (isOpening(byte) && ++this.#depth > this.#limits.depthMax) {
      return this.#break(`nesting is deeper than ${this.#limits.depthMax}`, byte)
    }
    const overlong = this.#keep(byte)
    if (overlong !== undefined || !isClosing(byte)) return overlong
    return --this.#depth === 0 ? this.#take() : undefined
  }

  #inString(byte: number): Frame | undefined {
    // Also the way out for a missing quote: the newline that ends the line is not allowed in a string.
    if (byte < 0x20) {
      return this.#break('control character in a string', byte)
    }
    const overlong = this.#keep(byte)
    if (overlong !== undefined) return overlong
    if (byte === BACKSLASH) this.#state = 'escape'
    if (byte !== QUOTE) return undefined
    this.#state = 'value'
    return this.#depth === 0 ? this.#take() : undefined
  }

  #keep(byte: number): Frame | undefined {
    if (this.#length === this.#limits.messageBytesMax) {
      return this.#break(`message is longer than ${this.#limits.messageBytesMax} bytes`, byte)
    }
    if (this.#length === this.#buffer.length) this.#grow()
    this.#buffer[this.#length++] = byte
    return undefined
  }

  #grow(): void {
    const larger = Buffer.allocUnsafe(Math.min(this.#buffer.length * 2, this.#limits.messageBytesMax))
    this.#buffer.copy(larger)
    this.#buffer = larger
  }

  #take(): Frame {
    const text = this.#buffer.toString('utf8', 0, this.#length)
    this.#reset('between')
    return { kind: 'text', text }
  }

  #break(reason: string, byte: number): Frame {
    this.#reset(byte === NEWLINE ? 'between' : 'skip')
    return { kind: 'broken', reason }
  }

  #reset(state: State): void {
    this.#state = state
    this.#depth = 0
    this.#length = 0
    if (this.#buffer.length > BUFFER_BYTES_KEPT) this.#buffer = Buffer.allocUnsafe(1024)
  }
}
