/**
 * `DataPlane`: the thread that serves NBD, as the control thread sees it. It hangs when a disk does, so what it has said
 * last is answered without it: facts, clients, and numbers, which are read from its memory. What only it can do is a
 * question, and waits: a question that was taken until its answer is there, because it will be carried out, and one that
 * was not for as long as there are signs of life, because a busy machine is slow. Then it is withdrawn.
 */
import { QmpReplyError } from '../qmp/error.js'
import type { JsonObject } from '../qmp/message.js'
import { openStatistics, type Statistics } from '../remap/statistics.js'
import { isMainThreadBusy } from '../util/process-state.js'
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
import { levelOf } from './events.js'
import { LogRing } from './log-ring.js'
import type { SpareState } from './spare-commands.js'

/** Promise P8 leaves 100 ms for everything that is answered from what is known. */
const HELLO_DEADLINE_MS = 50
/** A data plane that says nothing for this long, although it was asked, hangs. A machine that is only busy takes less. */
const SILENCE_MAX_MS = 5000

/** An answer that was sent before we looked has come by then. */
const ON_ITS_WAY_MS = 1

export type DataPlaneState = 'running' | 'stalled'

export interface DataPlaneOptions {
  readonly silenceMaxMs?: number
  /** Whether it uses a processor or waits for one, and not for a disk. The data plane is the main thread. */
  readonly isBusy?: () => boolean
}

export class DataPlane {
  /** What the data plane has logged, and its events. */
  readonly log = new LogRing()
  readonly #send: (question: Question) => void
  readonly #emit: (event: string, data: JsonObject) => void
  readonly #answers = new Map<number, (answer: Answer) => void>()
  readonly #factsKnown: Promise<Facts>
  #tellFacts: (facts: Facts) => void = () => undefined
  #isOpen = false
  #statistics: Statistics | undefined
  #clients: readonly NbdClient[] = []
  #spares: readonly SpareState[] = []
  #lastId = 0
  #lastHeardMs = -Infinity
  readonly #silenceMaxMs: number
  readonly #isBusy: () => boolean
  /** The `hello` that is not answered yet, and when it was said. */
  #hello: { readonly saidMs: number; readonly answered: Promise<unknown> } | undefined

  /** `emit` passes an event on to the clients of the control socket. */
  constructor(
    send: (question: Question) => void,
    emit: (event: string, data: JsonObject) => void,
    { silenceMaxMs = SILENCE_MAX_MS, isBusy = isMainThreadBusy }: DataPlaneOptions = {},
  ) {
    this.#silenceMaxMs = silenceMaxMs
    this.#isBusy = isBusy
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

  /** The disks are open. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  /** It was asked, and has been silent for so long that a busy machine is no explanation. */
  get hangs(): boolean {
    const saidMs = this.#hello?.saidMs ?? Infinity
    return performance.now() - Math.max(saidMs, this.#lastHeardMs) > this.#silenceMaxMs
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

  /** As the data plane has last told them, when it came to answer `state`. */
  get spares(): readonly SpareState[] {
    return this.#spares
  }

  receive(message: ToControl): void {
    this.#lastHeardMs = performance.now()
    switch (message.kind) {
      case 'facts':
        this.#isOpen = true
        this.#tellFacts(message.facts)
        break
      case 'clients':
        this.#clients = message.clients
        break
      case 'spares':
        this.#spares = message.spares
        break
      case 'log':
        this.log.add(message.level, message.message)
        break
      case 'event':
        this.log.add(levelOf(message.event), `${message.event} ${JSON.stringify(message.data)}`, message.event)
        this.#emit(message.event, message.data)
        break
      case 'answer':
        this.#answers.get(message.id)?.(message.answer)
        this.#answers.delete(message.id)
        break
    }
  }

  /** Says hello, unless a hello is unanswered already. @returns whether it is answered within a moment */
  answersAtOnce(): Promise<boolean> {
    const { saidMs, answered } = (this.#hello ??= this.#sayHello())
    return isInTime(answered, HELLO_DEADLINE_MS - (performance.now() - saidMs))
  }

  /** Whether a disk hangs. A thread that is only busy is waited for, so that clients and spares are as they are now. */
  async state(): Promise<DataPlaneState> {
    if (await this.answersAtOnce()) return 'running'
    while (this.#isBusy() && !this.hangs) if (await this.#answersWithin(HELLO_DEADLINE_MS)) return 'running'
    return (await this.#answersWithin(ON_ITS_WAY_MS)) ? 'running' : 'stalled'
  }

  #answersWithin(ms: number): Promise<boolean> {
    return isInTime(this.#hello?.answered ?? Promise.resolve(), ms)
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
    // Its answer is a sign of life, and it stands before the question in the queue.
    this.#hello ??= this.#sayHello()
    const id = ++this.#lastId
    const claim = newClaim()
    const answered = this.#question(id, operation, args, claim)
    if (!(await this.#isHeard(answered)) && claimQuestion(claim, GIVEN_UP)) {
      this.#answers.delete(id)
      throw new QmpReplyError('the data plane does not answer: a disk hangs; nothing was changed')
    }
    const answer = await answered
    if (answer.kind === 'error') throw new QmpReplyError(answer.desc, answer.errorClass)
    return answer.value
  }

  /** @returns true when `answered` is there, false when there was no sign of life for too long while it was not */
  async #isHeard(answered: Promise<Answer>): Promise<boolean> {
    const askedMs = performance.now()
    for (;;) {
      const saidMs = this.#hello?.saidMs ?? askedMs
      const leftMs = Math.max(saidMs, this.#lastHeardMs) + this.#silenceMaxMs - performance.now()
      if (leftMs <= 0) return false
      if (await isInTime(answered, leftMs)) return true
    }
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
