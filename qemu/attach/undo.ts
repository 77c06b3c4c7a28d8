/**
 * What has to be taken back when a later step fails, the last step first. That a step of it fails stops none of the others:
 * a QEMU that is gone needs nothing taken back, but the server that was started for it does.
 */
import { QmpConnectionError } from '../../src/qmp/index.js'
import { messageOf } from '../../src/util/errors.js'

interface Step {
  readonly what: string
  undo(): Promise<unknown>
}

export class UndoList {
  readonly #steps: Step[] = []

  /** @param what for people: "let the machine run" */
  push(what: string, undo: () => Promise<unknown>): void {
    this.#steps.push({ what, undo })
  }

  /** The last step needs no undoing any more. */
  pop(): void {
    this.#steps.pop()
  }

  /** All is done, and stays. */
  clear(): void {
    this.#steps.length = 0
  }

  /** @returns what could not be taken back, in sentences for people */
  async run(): Promise<string[]> {
    const failures: string[] = []
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      try {
        await step.undo()
      } catch (error) {
        if (!(error instanceof QmpConnectionError)) failures.push(`cannot ${step.what}: ${messageOf(error)}`)
      }
    }
    return failures
  }
}
