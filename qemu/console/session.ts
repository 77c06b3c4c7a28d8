/**
 * A session: lines in, results out, over targets that come and go. It knows nothing of terminals and scripts; one line is run at
 * a time, and what is wrong with it is told and answered with `failed`.
 */
import { QmpCommandError } from '../../src/qmp/error.js'
import { isObject, type JsonObject } from '../../src/qmp/message.js'
import { messageOf, UsageError } from '../../src/util/errors.js'
import { nearest } from '../../src/util/nearest.js'
import { readArguments } from './arguments.js'
import { commandIn, readCommandLine, type CommandLine } from './command-line.js'
import { complete, withLive, type Completion } from './complete.js'
import { EventPatterns } from './event-patterns.js'
import type { History } from './history.js'
import type { Output } from './output.js'
import { OWN_COMMANDS } from './own-commands.js'
import { runOwn } from './own-actions.js'
import type { Recorder } from './recorder.js'
import type { Target } from './target.js'
import { actionTypes, type Action } from './transaction.js'
import { LAST, Variables } from './variables.js'

export type Outcome = 'done' | 'failed' | 'exit'

/** What a line came to; without a value there is nothing to show. */
export interface Result {
  readonly target?: string
  readonly value?: unknown
  /** What people see instead of the value. */
  readonly text?: string
  /** It is what `$_` is from now on. */
  readonly keep?: boolean
}

export interface SessionOptions {
  readonly outputs: Readonly<Record<'pretty' | 'json', Output>>
  readonly output: 'pretty' | 'json'
  readonly events: EventPatterns
  readonly history: History
  readonly recorder?: Recorder | undefined
  /** Of `wait` without a number of seconds. */
  readonly waitMs: number
  columns(): number
}

export class Session {
  readonly targets: readonly Target[]
  readonly variables = new Variables()
  readonly history: History
  readonly columns: () => number
  readonly waitMs: number
  events: EventPatterns
  output: 'pretty' | 'json'
  current: Target
  /** While lines are collected. */
  transaction: { readonly target: Target; readonly actions: Action[] } | undefined
  readonly #outputs: SessionOptions['outputs']
  readonly #recorder: Recorder | undefined

  /** @param targets at least one, connected and named */
  constructor(targets: readonly Target[], options: SessionOptions) {
    const [first] = targets
    if (first === undefined) throw new UsageError('a console needs an address to connect to')
    this.targets = targets
    this.current = first
    this.output = options.output
    this.events = options.events
    this.history = options.history
    this.columns = () => options.columns()
    this.waitMs = options.waitMs
    this.#outputs = options.outputs
    this.#recorder = options.recorder
    this.#recorder?.begin(targets)
  }

  get out(): Output {
    return this.#outputs[this.output]
  }

  get prompt(): string {
    const { name, away } = this.transaction?.target ?? this.current
    const state = away === undefined ? '' : ' (away)'
    return this.transaction === undefined
      ? `${name}${state}> `
      : `${name}${state} transaction ${this.transaction.actions.length}> `
  }

  /** Runs a line, and shows what comes of it. Never throws. @param signal stops waiting for it */
  async run(text: string, signal?: AbortSignal): Promise<Outcome> {
    let line: Exclude<CommandLine, { kind: 'nothing' }> | undefined
    try {
      const read = readCommandLine(text)
      if (read.kind === 'nothing') return 'done'
      line = read
      if (line.kind === 'own' && line.name === 'exit') return 'exit'
      const result = await this.#carryOut(line, signal)
      if (result.keep === true) this.variables.set(LAST, result.value)
      if (result.value !== undefined) this.out.result({ ...result, command: nameOf(line), value: result.value })
      this.#recorder?.done(text, result.value)
      return 'done'
    } catch (thrown) {
      const error = this.#explain(thrown, line)
      const command = line === undefined ? text.trim() : nameOf(line)
      const target = line === undefined || thrown instanceof UsageError ? undefined : this.#nameFor(line)
      this.out.failure({ command, error, ...(target !== undefined && { target }) })
      this.#recorder?.failed(text, messageOf(error))
      return 'failed'
    }
  }

  /** @throws UsageError for a name that is none */
  target(name: string | undefined): Target {
    if (name === undefined) return this.transaction?.target ?? this.current
    const found = this.targets.find((target) => target.name === name)
    if (found !== undefined) return found
    throw new UsageError(`there is no target '${name}', but: ${this.targets.map((target) => target.name).join(', ')}`)
  }

  /** @param line up to the cursor */
  async complete(line: string): Promise<Completion> {
    const completion = complete(line, {
      targets: this.targets.map(({ name }) => name),
      current: this.target(undefined).name,
      schemaOf: (name) => this.targets.find((target) => target.name === name)?.schema,
      variables: this.variables,
      collecting: this.transaction !== undefined,
    })
    if (completion.live === undefined) return completion
    const { target, kind, prefix } = completion.live
    return withLive(completion, await this.target(target).lookUp(kind, prefix))
  }

  /** The program at the other end would end: asked for on purpose, or meant to leave the console? */
  endsProgram(text: string): Target | undefined {
    try {
      const line = readCommandLine(text)
      return line.kind === 'qmp' && line.command === 'quit' ? this.target(line.target) : undefined
    } catch {
      return undefined
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.targets.map((target) => target.close()))
    this.#recorder?.close()
  }

  async #carryOut(line: Exclude<CommandLine, { kind: 'nothing' }>, signal: AbortSignal | undefined): Promise<Result> {
    if (line.kind === 'own') return runOwn(this, line, signal)
    const target = this.target(line.target)
    if (this.transaction !== undefined) return this.#collect(target, line)
    const { command, oob } = line
    const value = await target.execute(command, this.#argumentsOf(line, target), { oob, ...(signal && { signal }) })
    return { target: target.name, value, keep: true }
  }

  #argumentsOf(line: CommandLine & { kind: 'qmp' | 'message' }, target: Target): JsonObject {
    if (line.kind === 'qmp')
      return readArguments(line.words, this.variables, target.schema?.commands.get(line.command)?.arguments)
    const message = commandIn(this.variables.parseJson(line.pieces))
    const args = isObject(message) ? (message['arguments'] ?? {}) : {}
    if (!isObject(args)) throw new UsageError('"arguments" has to be an object')
    return args
  }

  #collect(target: Target, line: CommandLine & { kind: 'qmp' | 'message' }): Result {
    const { transaction } = this
    if (target !== transaction?.target)
      throw new UsageError(`a transaction of ${transaction?.target.name ?? ''} is begun: commit or cancel it first`)
    const types = actionTypes(target.schema)
    if (line.kind !== 'qmp') throw new UsageError('actions of a transaction are written as NAME key=value ...')
    if (target.schema !== undefined && !types.has(line.command)) {
      throw new UsageError(
        `${line.command} cannot be part of a transaction; these can: ${[...types.keys()].join(', ')} (and commit, cancel)`,
      )
    }
    transaction.actions.push({
      type: line.command,
      data: readArguments(line.words, this.variables, types.get(line.command)),
    })
    return {}
  }

  /** What somebody meant who wrote the name of a command or event that `target` does not have; undefined when nothing is near. */
  suggest(name: string, target: Target): string | undefined {
    const other = this.targets.find(({ schema }) => schema?.commands.has(name))
    if (other !== undefined && other !== target) return `${other.name} has it: @${other.name} ${name}`
    const { commands, events } = target.schema ?? {}
    const [close] = nearest(name, [
      ...Object.keys(OWN_COMMANDS),
      ...(commands?.keys() ?? []),
      ...(events?.keys() ?? []),
    ])
    return close && `did you mean ${close}?`
  }

  #explain(thrown: unknown, line: CommandLine | undefined): unknown {
    if (!(thrown instanceof QmpCommandError) || thrown.errorClass !== 'CommandNotFound') return thrown
    const target = line === undefined || line.kind === 'nothing' ? this.current : this.target(line.target)
    const hint = this.suggest(thrown.command, target) ?? 'help shows all'
    return new QmpCommandError(thrown.command, thrown.errorClass, `${thrown.desc} (${hint})`)
  }

  #nameFor(line: Exclude<CommandLine, { kind: 'nothing' }>): string | undefined {
    try {
      return this.target(line.target).name
    } catch {
      return undefined
    }
  }
}

const nameOf = (line: Exclude<CommandLine, { kind: 'nothing' }>): string =>
  line.kind === 'own' ? line.name : line.command
