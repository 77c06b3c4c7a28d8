/** `nbd-remap scrub`: starts, stops and shows the scrub of a running server. */
import { Command, Option } from 'commander'
import { formatBytes } from '../util/units.js'
import { ask, show, type ShowOptions } from './ask.js'
import { controlOption, jsonOption, parseBytes, watchOption } from './options.js'

interface ScrubInfo {
  readonly state: 'idle' | 'running' | 'stopped' | 'completed'
  readonly position: number
  readonly size: number
  readonly speed: number
  readonly 'healed-blocks': number
  readonly 'lost-sectors': number
}

interface ScrubCommandOptions extends ShowOptions {
  readonly start?: boolean
  readonly restart?: boolean
  readonly stop?: boolean
  readonly speed?: number
}

export const scrubCommand = (): Command =>
  new Command('scrub')
    .description('Read the whole disk in the background, to find and repair bad blocks; or show how far that is.')
    .addOption(controlOption())
    .addOption(jsonOption())
    .addOption(watchOption())
    .addOption(new Option('--start', 'start it, or go on where it stopped').conflicts(['stop', 'restart']))
    .addOption(new Option('--restart', 'start it from the beginning').conflicts('stop'))
    .addOption(new Option('--stop', 'stop it and keep its position'))
    .addOption(
      new Option('--speed <bytes>', 'bytes per second, with K, M or G; 0: no limit (default: 16M)').argParser(
        parseBytes,
      ),
    )
    .addHelpText('after', '\nExample:\n  nbd-remap scrub --control /run/disk.qmp --start --speed 50M')
    .action(scrub)

async function scrub(options: ScrubCommandOptions): Promise<void> {
  const { control, start = false, restart = false, stop, speed } = options
  if (start || restart) await ask(control, 'scrub-start', { restart, ...(speed !== undefined && { speed }) })
  if (stop) await ask(control, 'scrub-stop')
  await show(options, () => ask<ScrubInfo>(control, 'query-scrub'), describe)
}

function describe(info: ScrubInfo): string {
  const percent = ((info.position / info.size) * 100).toFixed(1)
  const speed = info.speed === 0 ? 'no limit' : `${formatBytes(info.speed)} a second`
  return `scrub:    ${info.state}, ${speed}
read:     ${formatBytes(info.position)} of ${formatBytes(info.size)} (${percent} %)
healed:   ${info['healed-blocks']} blocks
lost:     ${info['lost-sectors']} sectors
`
}
