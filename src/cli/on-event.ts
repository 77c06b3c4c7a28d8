/** The options of `serve` that concern the command for events. */
import { InvalidArgumentError, Option, type Command } from 'commander'
import type { HookChoice } from '../control/event-hook.js'
import { CONTROL_EVENTS } from '../control/events.js'
import { UsageError } from '../util/errors.js'

export interface EventCommandOptions {
  readonly onEvent?: string
  readonly onEventNames?: readonly string[]
}

export const addEventOptions = (command: Command): Command =>
  command
    .option('--on-event <command>', 'run this shell command for each event, with the event as JSON on standard input')
    .addOption(
      new Option(
        '--on-event-names <names>',
        'with --on-event: for these events alone, such as SPARE_LOW,HEALTH_CHANGED',
      ).argParser(parseNames),
    )

function parseNames(text: string): readonly string[] {
  const names = text.split(',').map((name) => name.trim())
  const unknown = names.find((name) => !Object.hasOwn(CONTROL_EVENTS, name))
  if (unknown === undefined) return names
  throw new InvalidArgumentError(`There is no event ${unknown}; there are ${Object.keys(CONTROL_EVENTS).join(', ')}.`)
}

/** @throws UsageError */
export function hookChoice({ onEvent, onEventNames }: EventCommandOptions): HookChoice | undefined {
  if (onEvent !== undefined) return { command: onEvent, events: onEventNames }
  if (onEventNames !== undefined) throw new UsageError('--on-event-names goes with --on-event')
  return undefined
}
