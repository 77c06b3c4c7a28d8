/** `nbd-remap spare list|add|remove`: the spares of a running server. */
import { Command } from 'commander'
import type { QmpClient } from '../qmp/client.js'
import { resolveLocation } from '../device/location.js'
import { formatBytes } from '../util/units.js'
import { ask, show, withServer, type ShowOptions } from './ask.js'
import { controlOption, DISK_HELP, jsonOption, parseLocation, watchOption } from './options.js'
import { progressOf, type SpareStatus } from './spare-status.js'

interface Spares {
  readonly spares: readonly SpareStatus[]
  readonly 'total-blocks': number
  readonly 'free-blocks': number
}

interface AddOptions {
  readonly control: string
  readonly force?: boolean
  readonly json?: boolean
}

interface RemoveOptions {
  readonly control: string
  readonly wait: boolean
  readonly cancel?: boolean
}

export function spareCommand(): Command {
  const spare = new Command('spare').description('List, add and remove the spares of a running server.')
  for (const command of [listCommand(), addCommand(), removeCommand()]) spare.addCommand(command)
  return spare.addHelpText('after', '\nExample:\n  nbd-remap spare add --control /run/disk.qmp /dev/sdd')
}

const listCommand = (): Command =>
  new Command('list')
    .description('List the spares, in the order in which they are filled.')
    .addOption(controlOption())
    .addOption(jsonOption())
    .addOption(watchOption())
    .addHelpText('after', '\nExample:\n  nbd-remap spare list --control /run/disk.qmp')
    .action((options: ShowOptions) => show(options, () => ask<Spares>(options.control, 'query-spares'), describe))

const addCommand = (): Command =>
  new Command('add')
    .description('Format a disk and take it into the pool of spares.')
    .argument('<spare>', DISK_HELP, parseLocation)
    .addOption(controlOption())
    .option('--force', 'overwrite it if it is not blank')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
The server finds it again by itself when it is started the next time, with or without this --spare.

Example:
  nbd-remap spare add --control /run/disk.qmp /dev/sdd`,
    )
    .action(add)

const removeCommand = (): Command =>
  new Command('remove')
    .description('Move everything that a spare holds to the others, and take it out of the pool.')
    .argument('<spare>', 'its name or uuid, as "spare list" shows it')
    .addOption(controlOption())
    .option('--cancel', 'let a spare stay that is being removed')
    .option('--no-wait', 'return as soon as it has begun')
    .addHelpText(
      'after',
      `
Clients go on meanwhile. Ctrl-C ends the waiting, and not the removal. Exit codes: 0 removed, 1 it stays in the pool.

Example:
  nbd-remap spare remove --control /run/disk.qmp /dev/sdc`,
    )
    .action(remove)

async function add(path: string, { control, force = false, json }: AddOptions): Promise<void> {
  // The server may stand in another folder.
  const spare = await ask<SpareStatus>(control, 'spare-add', { path: resolveLocation(path), force })
  process.stdout.write(
    json
      ? `${JSON.stringify(spare)}\n`
      : `${spare.name} (${spare.uuid}) is in the pool: ${spare['total-blocks']} blocks, ${formatBytes(spare.size)}\n`,
  )
}

async function remove(name: string, { control, wait, cancel = false }: RemoveOptions): Promise<void> {
  await withServer(control, async (client) => {
    const queue = client.events('SPARE_REMOVED', 'SPARE_REMOVAL_FAILED')
    const { spares } = (await client.execute('query-spares')) as Spares
    const known = spares.find(
      (it) => [it.name, it.uuid, it.location].includes(name) || it.location === resolveLocation(name),
    )
    const spare = known?.uuid ?? name
    await client.execute('spare-remove', cancel ? { spare, cancel } : { spare })
    if (cancel || !wait) return
    for (;;) {
      const event = await queue.next({ timeoutMs: PROGRESS_MS }).catch(() => undefined)
      if (!event) await showProgress(client, spare)
      else if (event.data['uuid'] === spare) {
        if (event.event === 'SPARE_REMOVAL_FAILED')
          throw new Error(`spare ${name} stays in the pool: ${String(event.data['reason'])}`)
        process.stdout.write(`${name} is removed: ${String(event.data['moved-blocks'])} blocks moved to other spares\n`)
        return
      }
    }
  })
}

const PROGRESS_MS = 1000

async function showProgress(client: QmpClient, uuid: string): Promise<void> {
  const { spares } = (await client.execute('query-spares')) as Spares
  const spare = spares.find((it) => it.uuid === uuid)
  if (spare) process.stderr.write(`${progressOf(spare)}\n`)
}

function describe({ spares, ...pool }: Spares): string {
  const row = (first: string, ...cells: (string | number)[]): string =>
    first.padEnd(10) + cells.map((cell) => String(cell).padStart(11)).join('')
  const rows = spares.map((spare) => {
    const state = spare.state === 'draining' ? `  (${progressOf(spare)})` : ''
    const counts = [spare['total-blocks'], spare['free-blocks'], spare['remapped-blocks'], spare['retired-blocks']]
    return `${row(spare.state, ...counts, spare['lost-blocks'])}  ${spare.uuid}  ${spare.name}${state}`
  })
  const head = `${row('state', 'blocks', 'free', 'remapped', 'retired', 'lost')}  ${'uuid'.padEnd(32)}  spare`
  return `${[head, ...rows, `${pool['free-blocks']} of ${pool['total-blocks']} blocks are free`].join('\n')}\n`
}
