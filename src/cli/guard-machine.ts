/** What `nbd-remap guard` does: signals, lines on standard output, and exit codes around qemu/guard. */
import { Guard, type Outcome } from '../../qemu/guard/guard.js'
import { reportJson, reportLine } from '../../qemu/guard/report.js'
import { parseAddress } from '../qmp/index.js'
import { TOKEN_VARIABLE } from './ask.js'
import { EXIT } from './exit.js'
import type { GuardCommandOptions } from './guard.js'

const ONCE: Readonly<Record<Outcome, number>> = {
  runs: EXIT.done,
  'stays-paused': EXIT.refused,
  'gave-up': EXIT.failed,
}

export async function guard(options: GuardCommandOptions): Promise<void> {
  const format = options.json ? reportJson : reportLine
  const address = (text: string) => parseAddress(text, process.env[TOKEN_VARIABLE])
  const watch = new Guard({
    qmp: address(options.qmp),
    control: address(options.control),
    once: options.once === true,
    dryRun: options.dryRun === true,
    attemptsMax: options.attempts,
    replaceNode: options.replaceNode ? { reconnectDelaySeconds: options.reconnectDelay } : undefined,
    report: (report) => process.stdout.write(format(report, new Date())),
  })
  const controller = new AbortController()
  const onSignal = (): void => {
    controller.abort()
  }
  for (const signal of SIGNALS) process.on(signal, onSignal)
  try {
    const outcome = await watch.run(controller.signal)
    if (options.once && !controller.signal.aborted) process.exitCode = ONCE[outcome]
  } finally {
    for (const signal of SIGNALS) process.off(signal, onSignal)
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const
