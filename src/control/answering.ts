/**
 * `Answering`: takes the questions of the control thread and sends back what came of them. In the data plane's thread. A
 * question that the asker has given up is not carried out, however late it is found.
 */
import { QmpReplyError } from '../qmp/error.js'
import { InvariantError } from '../util/assert.js'
import { messageOf } from '../util/errors.js'
import { claimQuestion, HELLO, TAKEN, type Answer, type NbdClient, type Question, type ToControl } from './messages.js'
import type { Operations } from './operations.js'
import type { SpareState } from './spare-commands.js'

/** How things are now. */
export interface Present {
  clients(): readonly NbdClient[]
  spares(): readonly SpareState[]
}

export class Answering {
  readonly #send: (message: ToControl) => void
  readonly #operations: Operations
  readonly #present: Present

  constructor(send: (message: ToControl) => void, operations: Operations, present: Present) {
    this.#send = send
    this.#operations = operations
    this.#present = present
  }

  /** Never rejects, but for a broken invariant. */
  async receive({ id, operation, arguments: args, claim }: Question): Promise<void> {
    if (!claimQuestion(claim, TAKEN)) return
    if (operation === HELLO) {
      this.#send({ kind: 'clients', clients: this.#present.clients() })
      this.#send({ kind: 'spares', spares: this.#present.spares() })
    }
    this.#send({ kind: 'answer', id, answer: await this.#carryOut(operation, args) })
  }

  async #carryOut(operation: string, args: Question['arguments']): Promise<Answer> {
    try {
      return { kind: 'return', value: await this.#operations.get(operation)?.(args) }
    } catch (error) {
      if (error instanceof InvariantError) throw error
      const { desc, errorClass } = error instanceof QmpReplyError ? error : new QmpReplyError(messageOf(error))
      return { kind: 'error', desc, errorClass }
    }
  }
}
