/** `--on-event`: what the command is given, and how many run, wait, and how long. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { EventHook, type HookLimits } from '../../src/control/event-hook.js'
import { createLog } from '../../src/util/log.js'
import { processState } from '../../src/util/process-state.js'

interface Rig {
  readonly hook: EventHook
  readonly path: (name: string) => string
  /** Resolves when the file is there and not empty. */
  readonly content: (name: string) => Promise<string>
  readonly said: () => string
}

function rig(t: Test, command: (folder: string) => string, events?: string[], limits?: Partial<HookLimits>): Rig {
  const folder = t.testdir({})
  let said = ''
  const log = createLog('debug', (line) => (said += line))
  const choice = { command: command(folder), events }
  const hook = new EventHook(choice, log, { runningMax: 2, waitingMax: 3, msMax: 20_000, ...limits })
  t.teardown(() => {
    hook.close()
  })
  const path = (name: string): string => join(folder, name)
  const content = async (name: string): Promise<string> => {
    // A file of another process: there is nothing to wait for but the file.
    while (!existsSync(path(name)) || readFileSync(path(name)).length === 0) await pause(5)
    return readFileSync(path(name), 'utf8')
  }
  return { hook, path, content, said: () => said }
}

void t.test('the event is in the environment, and as JSON on standard input', async (t) => {
  const command = (folder: string): string =>
    `cd ${folder}; echo "$NBD_REMAP_EVENT $NBD_REMAP_FREE_BLOCKS $NBD_REMAP_LIST" > env; cat > in.new; mv in.new in`
  const { hook, content } = rig(t, command, ['SPARE_LOW'])
  hook.offer('IO_ERROR', {})
  hook.offer('SPARE_LOW', { 'free-blocks': 7, list: ['$(touch /nonexistent)', 'b'] })
  const input = JSON.parse(await content('in')) as Record<string, unknown>
  t.match(input, { event: 'SPARE_LOW', data: { 'free-blocks': 7 }, time: /^\d{4}-/ })
  t.equal(await content('env'), 'SPARE_LOW 7 ["$(touch /nonexistent)","b"]\n', 'nothing of it is run')
})

void t.test('two run, three wait, and what is more is dropped and told', async (t) => {
  const command = (folder: string): string =>
    `cd ${folder}; echo x >> begun; while [ ! -e go ]; do sleep 0.02; done; echo x >> done`
  const { hook, path, content, said } = rig(t, command)
  for (let n = 0; n < 9; n++) hook.offer('IO_ERROR', { n })
  while ((await content('begun')).length < 4) await pause(5)
  t.equal(await content('begun'), 'x\nx\n', 'two at a time')
  writeFileSync(path('go'), '')
  while ((await content('done')).length < 10) await pause(5)
  while (!said().includes('4 events were dropped')) await pause(5)
  t.equal(await content('done'), 'x\n'.repeat(5))
})

void t.test('what takes too long is killed with all that it started, and failures are told', async (t) => {
  const command = (folder: string): string => `cd ${folder}; (sleep 100 & echo $! > pid; wait)`
  const { hook, content, said } = rig(t, command, undefined, { msMax: 2000 })
  hook.offer('IO_ERROR', {})
  const pid = Number(await content('pid'))
  while (!said().includes('IO_ERROR took longer than 2 s, and is killed')) await pause(5)
  while (processState(pid) !== undefined) await pause(5)
  const failing = rig(t, () => 'exit 3')
  failing.hook.offer('IO_ERROR', {})
  while (!failing.said().includes('the command for IO_ERROR ended with exit code 3')) await pause(5)
  t.pass()
})
