/**
 * Text from anywhere, made fit for a report: a guest's output may hold anything. Nothing is dropped; what cannot be shown,
 * or would change how the rest is shown, becomes a visible sign for it.
 */

const CONTROL_PICTURES = 0x2400
const PICTURE_OF_DELETE = 0x2421
const DELETE = 0x7f
const REPLACEMENT = '\ufffd'

/**
 * C0 controls except tab and line feed, DEL and C1 controls; the characters that turn the direction of text; those that are
 * none at all, such as half a surrogate pair (XML refuses them). A carriage return before a line feed is no news.
 */
const UNFIT =
  /\r\n|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff\p{Surrogate}]/gu

export const cleanText = (text: string): string => text.replace(UNFIT, picture)

/** On one line, for names and titles. */
export const cleanLine = (text: string): string => cleanText(text).replace(/\s+/g, ' ').trim()

function picture(found: string): string {
  if (found === '\r\n') return '\n'
  const code = found.charCodeAt(0)
  if (code < 0x20) return String.fromCharCode(CONTROL_PICTURES + code)
  return code === DELETE ? String.fromCharCode(PICTURE_OF_DELETE) : REPLACEMENT
}

/** For text and for attribute values in quotes, in XML and in HTML. */
export const escapeMarkup = (text: string): string =>
  cleanText(text).replace(/[&<>"']/g, (sign) => ENTITIES[sign] ?? sign)

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}
