/** How many columns of a terminal text takes: two for East Asian and most emoji, none for combining marks. */

const GRAPHEMES = new Intl.Segmenter(undefined, { granularity: 'grapheme' })
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|[\u{20000}-\u{3fffd}]/u
const WIDTHLESS = /^\p{Mark}+$/u
const ASCII = /^[\u0020-\u007e]*$/

/** What a person takes for one character. */
export const graphemesOf = (text: string): string[] =>
  ASCII.test(text) ? text.split('') : Array.from(GRAPHEMES.segment(text), ({ segment }) => segment)

/** @param text without control characters */
export const textWidth = (text: string): number =>
  ASCII.test(text) ? text.length : graphemesOf(text).reduce((sum, grapheme) => sum + graphemeWidth(grapheme), 0)

export const graphemeWidth = (grapheme: string): number => (WIDTHLESS.test(grapheme) ? 0 : WIDE.test(grapheme) ? 2 : 1)
