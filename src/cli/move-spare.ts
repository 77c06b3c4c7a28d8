/** `nbd-remap move-spare`: what a spare holds moves to another disk. Offline; `spare add` and `spare remove` do it online. */
import { Command } from 'commander'
import type { Drain } from '../remap/drain.js'
import type { Pair } from '../remap/pair.js'
import { stderrLog, type Log } from '../util/log.js'
import { withOfflinePair } from './offline-pair.js'
import { fromOption, jsonOption, mainOption, toOption } from './options.js'
import { ProgressLine } from './progress-line.js'

interface MoveSpareOptions {
  readonly from: string
  readonly to: string
  readonly main: string
  readonly force?: boolean
  readonly json?: boolean
}

export const moveSpareCommand = (): Command =>
  new Command('move-spare')
    .description('Move all that a spare holds to another disk, which takes its place. The pair must not be served.')
    .addOption(mainOption())
    .addOption(fromOption('the spare until now'))
    .addOption(toOption('the new spare'))
    .option('--force', 'overwrite a new spare that is not blank')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
When it is cut off, both are spares of the pair, and the same command goes on. To do the same while clients go on, use
"nbd-remap spare add" and "nbd-remap spare remove".

Exit codes: 0 moved, 1 failed: nothing is lost, and the pair can be served, 3 a disk is in use, or is not what it should be.

Example:
  nbd-remap move-spare --main /dev/sdb --from spare.img --to /dev/sdc`,
    )
    .action(move)

async function move({ main, from, to, force = false, json }: MoveSpareOptions): Promise<void> {
  const log = stderrLog()
  const moved = await withOfflinePair({ main, spares: [from] }, log, (pair, signal) =>
    moveSpare(pair, { from, to, force, signal, log }),
  )
  process.stdout.write(
    json ? `${JSON.stringify({ 'moved-blocks': moved })}\n` : `${from} moved to ${to}: ${moved} blocks\n`,
  )
}

async function moveSpare(
  pair: Pair,
  options: { from: string; to: string; force: boolean; signal: AbortSignal; log: Log },
): Promise<number> {
  const { from, to, force, signal, log } = options
  const [{ openDisk }, { addInPlaceOf, isMember, memberAt }] = await Promise.all([
    import('../device/open.js'),
    import('../remap/move-spare.js'),
  ])
  const member = memberAt(pair, from)
  if (!isMember(pair, to)) {
    pair.refuseOwn(to)
    await addInPlaceOf(pair, member, await openDisk(to, { readOnly: false, log }), force)
  }
  const { drain, done } = pair.removeSpare(member)
  signal.addEventListener('abort', () => {
    drain.cancel()
  })
  await showUntil(done, drain)
  return drain.moved
}

async function showUntil(done: Promise<void>, drain: Drain): Promise<void> {
  const progress = new ProgressLine()
  const timer = setInterval(() => {
    progress.show(`moving: ${drain.moved} of ${drain.total} blocks`)
  }, 200)
  try {
    await done
  } finally {
    clearInterval(timer)
    progress.end()
  }
}
