/** `nbd-remap top`: a running server, live on a terminal. The picture is made in top/view.ts. */
import { Command } from 'commander'
import { ask, type ShowOptions } from './ask.js'
import { controlOption, parseSeconds } from './options.js'

interface TopOptions {
  readonly control: ShowOptions['control']
  readonly interval: number
}

export const topCommand = (): Command =>
  new Command('top')
    .description(
      'Watch a running server on a terminal: requests, latencies, errors, and where on the disk errors and remaps are.',
    )
    .addOption(controlOption())
    .option('--interval <seconds>', 'time between two looks', parseSeconds, 1)
    .addHelpText(
      'after',
      `
q and Ctrl-C quit. Rates and the first two latencies are of the time since the look before, the others since the start of
the server. A server that goes away is waited for.

Example:
  nbd-remap top --control /run/disk.qmp --interval 0.5`,
    )
    .action(top)

async function top({ control, interval }: TopOptions): Promise<void> {
  const [{ Feed }, { Screen }, { linesOf }] = await Promise.all([
    import('./top/feed.js'),
    import('./top/screen.js'),
    import('./top/view.js'),
  ])
  Screen.demand()
  // Says in a sentence what is wrong with a server that was never there, while the terminal is still as it was.
  await ask(control, 'query-status')
  const feed = new Feed(control)
  const draw = (): void => {
    if (feed.picture) screen.draw(linesOf(feed.picture, screen.size))
  }
  const screen = new Screen(draw)
  try {
    process.exitCode = await untilEnded(screen.ended, interval * 1000, async () => {
      await feed.look()
      draw()
    })
  } finally {
    screen.close()
    await feed.close()
  }
}

/** Looks again and again. Neither a pause nor a server that does not answer holds up the end. */
async function untilEnded(ended: Promise<number>, pauseMs: number, look: () => Promise<void>): Promise<number> {
  for (;;) {
    let timer: NodeJS.Timeout | undefined
    const pause = new Promise<undefined>((resolve) => {
      timer = setTimeout(resolve, pauseMs, undefined)
    })
    const looked = look().then(() => pause)
    const exitCode = await Promise.race([ended, looked])
    clearTimeout(timer)
    if (exitCode !== undefined) return exitCode
  }
}
