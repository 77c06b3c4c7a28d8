/** `nbd-remap demo`: the options. The story is told by demo-terminal.ts, which is loaded when it is wanted. */
import { Command } from 'commander'
import { jsonOption } from './options.js'

export interface DemoCommandOptions {
  readonly seed?: string
  readonly keep?: boolean
  readonly json?: boolean
  /** A file; `true`: wherever it is kept; `false`: none. */
  readonly report: string | boolean
  readonly record?: string
}

export const demoCommand = (): Command =>
  new Command('demo')
    .description('Watch a QEMU virtual machine lose its files on a failing disk, and keep them with nbd-remap.')
    .option('--seed <seed>', 'repeat an earlier run: the same blocks go bad')
    .option('--keep', 'leave the machine running at the end, and say how to look around')
    .addOption(jsonOption())
    .option('--report <file>', 'where to write the report, an HTML page; else nbd-remap/demo.html below ~/.cache')
    .option('--no-report', 'write no report')
    .option('--record <file>', 'write what the report is made from, as JSON (docs/runs.schema.json)')
    .addHelpText(
      'after',
      `
Takes about a minute and needs QEMU and the guest image ("npm run setup" installs both; "npm run demo" does all of it).
At the end it says where its report is: one HTML page with a timeline of what happened, which a browser opens without a network.
Ctrl-C ends it at any time and leaves nothing behind. Exit codes: 0 all claims hold, 1 some do not.

Example:
  npm run demo -- --seed 1`,
    )
    .action(async (options: DemoCommandOptions) => {
      const { demo } = await import('./demo-terminal.js')
      await demo(options)
    })
