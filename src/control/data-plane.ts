/**
 * `DataPlane`: the thread that serves NBD, as the control thread sees it. It hangs when a disk does, so nothing here waits
 * for it without a limit: facts and clients are what it has said last, numbers are read from its memory, and a question
 * that it does not take in time is withdrawn. A question that it has taken is waited for, because it will be carried out.
 */
import { QmpReplyError } from '../qmp/error.js'
import type { JsonObject } from '../qmp/message.js'
import { openStatistics, type Statistics } from '../remap/statistics.js'
import {
  claimQuestion,
  GIVEN_UP,
  HELLO,
  newClaim,
  type Answer,
  type Facts,
  type NbdClient,
  type Question,
  type ToControl,
} from './messages.js'

/** Promise P8 leaves 100 ms for everything. */
const TAKE_DEADLINE_MS = 80
const HELLO_DEADLINE_MS = 50

export type DataPlaneState = 'running' | 'stalled'

export class DataPlane {
  readonly #send: (question: Question) => void
  readonly #emit: (event: string, data: JsonObject) => void
  readonly #answers = new Map<number, (answer: Answer) => void>()
  readonly #factsKnown: Promise<Facts>
  #tellFacts: (facts: Facts) => void = () => undefined
  #statistics: Statistics | undefined
  #clients: readonly NbdClient[] = []
  #lastId = 0
  /** The `hello` that is not answered yet, and when it was said. */
  #hello: { readonly saidMs: number; readonly answered: Promise<unknown> } | undefined

  /** `emit` passes an event on to the clients of the control socket. */
  constructor(send: (question: Question) => void, emit: (event: string, data: JsonObject) => void) {
    this.#send = send
    this.#emit = emit
    this.#factsKnown = new Promise((resolve) => {
      this.#tellFacts = resolve
    })
  }

  /** Resolves once the disks are open. */
  get facts(): Promise<Facts> {
    return this.#factsKnown
  }

  /** Counted by the data plane while we look. */
  async statistics(): Promise<Statistics> {
    const { statistics } = await this.#factsKnown
    this.#statistics ??= openStatistics(statistics)
    return this.#statistics
  }

  /** As the data plane has last told them: when it came to answer `state`, or when one came or left. */
  get clients(): readonly NbdClient[] {
    return this.#clients
  }

  receive(message: ToControl): void {
    switch (message.kind) {
      case 'facts':
        this.#tellFacts(message.facts)
        break
      case 'clients':
        this.#clients = message.clients
        break
      case 'event':
        this.#emit(message.event, message.data)
        break
      case 'answer':
        this.#answers.get(message.id)?.(message.answer)
        this.#answers.delete(message.id)
        break
    }
  }

  /** Says hello, unless a hello is unanswered already, and waits for a moment. */
  async state(): Promise<DataPlaneState> {
    const { saidMs, answered } = (this.#hello ??= this.#sayHello())
    return (await isInTime(answered, HELLO_DEADLINE_MS - (performance.now() - saidMs))) ? 'running' : 'stalled'
  }

  #sayHello(): { saidMs: number; answered: Promise<unknown> } {
    const answered = this.#question(++this.#lastId, HELLO, {}, newClaim()).then(() => {
      this.#hello = undefined
    })
    return { saidMs: performance.now(), answered }
  }

  /**
   * Has an operation carried out by the data plane.
   * @throws QmpReplyError what the operation failed with, or that the data plane does not answer; nothing is done then
   */
  async ask(operation: string, args: JsonObject): Promise<unknown> {
    await this.#factsKnown
    const id = ++this.#lastId
    const claim = newClaim()
    const answered = this.#question(id, operation, args, claim)
    if (!(await isInTime(answered, TAKE_DEADLINE_MS)) && claimQuestion(claim, GIVEN_UP)) {
      this.#answers.delete(id)
      throw new QmpReplyError('the data plane does not answer: a disk hangs')
    }
    const answer = await answered
    if (answer.kind === 'error') throw new QmpReplyError(answer.desc, answer.errorClass)
    return answer.value
  }

  #question(id: number, operation: string, args: JsonObject, claim: Int32Array): Promise<Answer> {
    return new Promise((resolve) => {
      this.#answers.set(id, resolve)
      this.#send({ kind: 'question', id, operation, arguments: args, claim })
    })
  }
}

/** Whether `event` happens within so many milliseconds. */
function isInTime(event: Promise<unknown>, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(
      () => {
        resolve(false)
      },
      Math.max(0, ms),
    )
    void event.then(() => {
      clearTimeout(timer)
      resolve(true)
    })
  })
}
