/**
 * What a client has asked for in its handshake, as far as it matters to the transmission phase. Metadata contexts belong
 * to the export name they were selected for, and to no other, even if it means the same export.
 */

import type { SelectedContext } from './meta-context.js'

/** How replies look: simple ones, structured chunks, or chunks with extended headers, which take precedence. */
export type ReplyStyle = 'simple' | 'structured' | 'extended'

/** What holds for the transmission phase with one export. */
export interface Negotiated {
  readonly style: ReplyStyle
  readonly contexts: readonly SelectedContext[]
}

const NO_CONTEXTS: readonly SelectedContext[] = []

export class Negotiation {
  #style: ReplyStyle = 'simple'
  #exportName = ''
  #contexts = NO_CONTEXTS

  get style(): ReplyStyle {
    return this.#style
  }

  useStructuredReplies(): void {
    if (this.#style === 'simple') this.#style = 'structured'
  }

  useExtendedHeaders(): void {
    this.#style = 'extended'
  }

  /** Replaces what was selected before. */
  select(exportName: string, contexts: readonly SelectedContext[]): void {
    this.#exportName = exportName
    this.#contexts = contexts
  }

  unselect(): void {
    this.#contexts = NO_CONTEXTS
  }

  /** Ending with the export that the client calls so. */
  resultFor(exportName: string): Negotiated {
    return { style: this.#style, contexts: exportName === this.#exportName ? this.#contexts : NO_CONTEXTS }
  }
}
