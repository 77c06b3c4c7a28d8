/** Names that anybody may have chosen, on a terminal. */
import { isUtf8 } from 'node:buffer'

/** What a terminal would act on, and what hides or turns around what stands beside it. */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/u
const QUOTED = /[\p{C}\p{Zl}\p{Zp}"\\]/gu

/** As it is when that is harmless, else in quotes with escapes: those of JSON, and `\xFF` for bytes that are no UTF-8. */
export function printableName(name: Buffer): string {
  const text = name.toString('utf8')
  const isClear = isUtf8(name) && !UNPRINTABLE.test(text) && !text.includes('"') && text.trim() === text
  if (isClear) return text
  return isUtf8(name) ? `"${escaped(text)}"` : `"${[...name].map(escapedByte).join('')}"`
}

const escaped = (text: string): string =>
  text.replaceAll(QUOTED, (character) => {
    const short = JSON.stringify(character).slice(1, -1)
    return short === character ? unicodeEscapes(character) : short
  })

const unicodeEscapes = (character: string): string =>
  [...Array(character.length).keys()].map((n) => `\\u${character.charCodeAt(n).toString(16).padStart(4, '0')}`).join('')

const escapedByte = (byte: number): string => {
  const character = String.fromCharCode(byte)
  return byte < 0x80 ? escaped(character) : `\\x${byte.toString(16)}`
}
