/** `serve --on-event`, from the option to the command; test/control/event-hook.test.ts has its limits. */
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { join } from 'node:path'
import t from 'tap'
import { fails, newPair, Serve } from '../support/cli.js'

const USAGE = 2

void t.test('the command is run for the events that are named, while the disk is served', async (t) => {
  const pair = newPair(t)
  const told = join(pair.folder, 'told')
  const command = `cat >> ${told}.new; mv ${told}.new ${told}`
  const server = await Serve.start(t, pair, [
    '--create',
    '--on-event',
    command,
    '--on-event-names',
    'REMAP_ADDED,SPARE_LOW',
  ])
  await server.ask('remap-add', { 'main-sector': 8, sectors: 8 })
  // A file of another process: there is nothing to wait for but the file.
  while (!existsSync(told)) await pause(5)
  t.match(JSON.parse(readFileSync(told, 'utf8')), {
    event: 'REMAP_ADDED',
    data: { 'main-sector': 8, reason: 'operator' },
  })
  t.equal((await server.end()).code, 0)
})

void t.test('names of no events are refused', async (t) => {
  const { main, spare } = newPair(t)
  const serve = ['serve', '--main', main, '--spare', spare, '--create', '--on-event', 'true']
  await fails(
    t,
    USAGE,
    /There is no event SPARE_LOV; there are REMAP_ADDED, /,
    [...serve, '--on-event-names', 'SPARE_LOV'],
    [spare],
  )
  await fails(t, USAGE, /goes with --on-event$/, [...serve.slice(0, -2), '--on-event-names', 'SPARE_LOW'], [spare])
})
