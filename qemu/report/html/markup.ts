/**
 * `markup`: a template that escapes whatever is put into it, unless it is markup already. Everything on the page is made
 * by it, so that no text of a record can become part of the page's structure by being forgotten.
 */
import { escapeMarkup } from '../clean-text.js'

export class Markup {
  readonly #text: string

  /** @param text markup that was written here, never text of a record */
  constructor(text: string) {
    this.#text = text
  }

  toString(): string {
    return this.#text
  }
}

export type Content = Markup | string | number | undefined | readonly Content[]

export const markup = (strings: TemplateStringsArray, ...contents: Content[]): Markup =>
  new Markup(strings.reduce((text, string, n) => text + render(contents[n - 1]) + string))

function render(content: Content): string {
  if (content === undefined) return ''
  if (content instanceof Markup) return content.toString()
  if (typeof content === 'object') return content.map(render).join('')
  return escapeMarkup(String(content))
}
