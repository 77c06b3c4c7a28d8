/** Who tells the story while it happens; the acts know nothing of terminals. */
export interface Narrator {
  /** A new act begins. */
  act(title: string): void
  /** What is going on now; replaced by the next one. */
  step(text: string): void
  /** Something that was observed and is worth keeping. */
  fact(text: string): void
}

/** What was promised, and what was measured. */
export interface Claim {
  readonly act: string
  readonly claim: string
  readonly measured: string
  readonly holds: boolean
}
