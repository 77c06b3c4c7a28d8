/**
 * The options of `serve`, from the command line and from the file of `--config` together. What the command line says
 * counts, and drives out what the file says to the contrary. `reload` reads the file again.
 */
import type { Command, Option } from 'commander'
import { UsageError } from '../util/errors.js'
import type { ConfigFile } from './config-file.js'

/** What a reload came to, by the names of the options. */
export interface Reloaded {
  readonly changed: readonly string[]
  /** They differ from what is in force, and only a restart brings them into force. */
  readonly 'needs-restart': readonly string[]
}

/** Attribute names of the options that can change while clients go on. */
export const LIVE_OPTIONS: ReadonlySet<string> = new Set([
  'onReadError',
  'readRetries',
  'slowRead',
  'stopTimeout',
  'onExhausted',
  'spareLow',
  'tableMinBuckets',
  'tableGrowLoad',
  'tableShrinkLoad',
  'limit',
  'verbose',
])

export class Configuration<Options extends object> {
  readonly #command: Command
  readonly #file: ConfigFile | undefined
  #text: string | undefined
  #options: Options

  private constructor(command: Command, file: ConfigFile | undefined, text: string | undefined) {
    this.#command = command
    this.#file = file
    this.#text = text
    this.#options = this.#merged(text)
  }

  /** @param text of the file as somebody else has read it @throws UsageError */
  static async open<Options extends object>(
    command: Command,
    path: string | undefined,
    text?: string,
  ): Promise<Configuration<Options>> {
    if (path === undefined) return new Configuration(command, undefined, undefined)
    const { ConfigFile } = await import('./config-file.js')
    const file = new ConfigFile(path)
    return new Configuration(command, file, text ?? file.read())
  }

  /** Those in force. */
  get options(): Options {
    return this.#options
  }

  /** Of the file, as it is in force. */
  get text(): string | undefined {
    return this.#text
  }

  get hasFile(): boolean {
    return this.#file !== undefined
  }

  /**
   * Reads the file again and has what can be changed put into force. When it throws, nothing has changed.
   * @param apply is told the options to come, and the attribute names of those that change
   * @throws UsageError
   */
  reload(apply: (options: Options, changed: ReadonlySet<string>) => void): Reloaded {
    const text = this.#file?.read()
    const wanted = this.#merged(text)
    const differing = this.#command.options.filter((option) => differs(this.#options, wanted, option.attributeName()))
    const live = differing.filter((option) => LIVE_OPTIONS.has(option.attributeName()))
    const changed = new Set(live.map((option) => option.attributeName()))
    const options = { ...this.#options, ...pick(wanted, changed) }
    apply(options, changed)
    this.#options = options
    this.#text = text
    const names = (some: typeof differing): string[] => some.map(({ long }) => long?.slice(2) ?? '')
    return { changed: names(live), 'needs-restart': names(differing.filter((option) => !live.includes(option))) }
  }

  /** @throws UsageError when the file is wrong, or an option is missing */
  #merged(text: string | undefined): Options {
    const command = this.#command
    const merged: Record<string, unknown> = { ...command.opts() }
    if (this.#file && text !== undefined) Object.assign(merged, this.#fromFile(this.#file, text))
    for (const option of command.options) {
      if (isNeeded(option.attributeName()) && merged[option.attributeName()] === undefined) {
        const where = this.#file ? `, and ${this.#file.path} does not have it` : ''
        throw new UsageError(`required option '${option.flags}' not specified${where} (add --help for help)`)
      }
    }
    return merged as Options
  }

  #fromFile(file: ConfigFile, text: string): Record<string, unknown> {
    const { options } = this.#command
    const isGiven = (option: Option): boolean => this.#command.getOptionValueSource(option.attributeName()) === 'cli'
    const given = options.filter(isGiven)
    const entries = file.parse(
      text,
      options.filter(({ long }) => long !== '--config'),
    )
    const counting = [...entries].filter(
      ([, { option, value }]) => value !== undefined && !isGiven(option) && !file.excludes(given, option),
    )
    return Object.fromEntries(counting.map(([name, { value }]) => [name, value]))
  }
}

/** With `--config` commander cannot demand them. */
const isNeeded = (name: string): boolean => name === 'main' || name === 'spare'

const differs = (before: object, after: object, name: string): boolean =>
  JSON.stringify(Reflect.get(before, name)) !== JSON.stringify(Reflect.get(after, name))

/** With the absent ones as `undefined`: they are back at their defaults. */
const pick = (options: object, names: ReadonlySet<string>): Record<string, unknown> =>
  Object.fromEntries([...names].map((name) => [name, Reflect.get(options, name)]))
