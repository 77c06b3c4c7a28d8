/**
 * The monitor of the machine, asked and told apart: with `print`, what would change something is printed as QMP instead of
 * being sent, and what only asks is asked all the same.
 */
import type { ExecuteOptions, JsonObject, QmpClient } from '../../src/qmp/index.js'

export class Steering {
  readonly qmp: QmpClient
  readonly #print: ((line: string) => void) | undefined

  constructor(qmp: QmpClient, print?: (line: string) => void) {
    this.qmp = qmp
    this.#print = print
  }

  /** Nothing is changed, only shown. */
  get isRehearsal(): boolean {
    return this.#print !== undefined
  }

  /** @throws QmpError */
  async ask<T>(command: string, args?: JsonObject): Promise<T> {
    return (await this.qmp.execute(command, args)) as T
  }

  /** @throws QmpError */
  async change(command: string, args: JsonObject = {}, options?: ExecuteOptions): Promise<void> {
    if (this.#print === undefined) await this.qmp.execute(command, args, options)
    else this.#print(JSON.stringify({ execute: command, ...(Object.keys(args).length > 0 && { arguments: args }) }))
  }

  /** As `QmpClient.execute`, for what takes one. */
  readonly execute = (command: string, args?: JsonObject): Promise<unknown> =>
    command.startsWith('query-') || command.startsWith('x-debug-query-')
      ? this.ask(command, args)
      : this.change(command, args)
}
