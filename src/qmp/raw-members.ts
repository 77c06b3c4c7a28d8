/**
 * The members of a JSON object as the text that they are. What is passed on goes unparsed, since JSON.parse rounds integers beyond
 * 2^53, which QEMU sends: a relay must not change what it carries.
 */

/**
 * @param text of a JSON object that JSON.parse takes
 * @returns the text of each member's value; of members with one name the last counts, as in JSON.parse
 */
export function rawMembers(text: string): ReadonlyMap<string, string> {
  const members = new Map<string, string>()
  for (let at = text.indexOf('"'); at >= 0;) {
    const nameEnd = endOfString(text, at)
    const from = text.indexOf(':', nameEnd) + 1
    const end = endOfValue(text, from)
    members.set(JSON.parse(text.slice(at, nameEnd)) as string, text.slice(from, end).trim())
    at = text[end] === ',' ? text.indexOf('"', end) : -1
  }
  return members
}

/** @returns where the string that begins at `at` has ended */
function endOfString(text: string, at: number): number {
  for (let next = at + 1; next < text.length; next++) {
    if (text[next] === '\\') next++
    else if (text[next] === '"') return next + 1
  }
  return text.length
}

/** @returns where the comma or the brace stands that ends the value from `at` on */
function endOfValue(text: string, at: number): number {
  let depth = 0
  for (let next = at; next < text.length;) {
    const character = text[next]
    if (character === '"') {
      next = endOfString(text, next)
      continue
    }
    if (depth === 0 && (character === ',' || character === '}')) return next
    if (character === '{' || character === '[') depth++
    if (character === '}' || character === ']') depth--
    next++
  }
  return text.length
}
