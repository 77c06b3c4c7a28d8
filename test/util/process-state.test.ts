import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { isSameProcess, processState } from '../../src/util/process-state.js'
import { newFolder } from '../support/cli.js'
import { FuseFile, needsFuse } from '../support/fuse-file.js'

/** A process that is killed when the test ends, at the latest. */
function start(t: Test, program: string, ...args: string[]): { pid: number; end: () => Promise<unknown> } {
  const child = spawn(program, args, { stdio: 'ignore' })
  const exited = once(child, 'exit')
  const end = (): Promise<unknown> => {
    child.kill('SIGKILL')
    return exited
  }
  t.teardown(end)
  return { pid: child.pid ?? 0, end }
}

/** Looks until it is so: the kernel takes its time. */
async function until(pid: number, state: string): Promise<void> {
  while (processState(pid)?.state !== state) await new Promise((resolve) => setTimeout(resolve, 5))
}

void t.test('a process sleeps, is stopped, and is gone', async (t) => {
  const { pid, end } = start(t, 'sleep', '1000')
  await until(pid, 'S')
  const before = processState(pid)
  t.match(before, { pid, isInDiskCall: false })
  process.kill(pid, 'SIGSTOP')
  await until(pid, 'T')
  t.equal(processState(pid)?.started, before?.started)
  t.ok(before && isSameProcess(before))
  t.notOk(before && isSameProcess({ pid, started: before.started + 1 }), 'another one has its number')
  await end()
  t.equal(processState(pid), undefined)
  t.notOk(before && isSameProcess(before))
})

void t.test('one that calculates runs, and its time grows', async (t) => {
  const { pid } = start(t, 'sh', '-c', 'while :; do :; done')
  const first = processState(pid)?.ranMs ?? NaN
  while (!((processState(pid)?.ranMs ?? NaN) > first + 20)) await new Promise((resolve) => setTimeout(resolve, 5))
  t.equal(processState(pid)?.state, 'R')
})

const MAIN_THREAD_ENDS = `
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
ctypes.CDLL(None).pthread_exit(None)
`

void t.test('one whose main thread has ended before the others is there until they have', async (t) => {
  const { pid, end } = start(t, '/usr/bin/python3', '-c', MAIN_THREAD_ENDS)
  await until(pid, 'Z')
  const before = processState(pid)
  t.ok(before && isSameProcess(before))
  await end()
  t.equal(processState(pid), undefined)
})

void t.test('one that waits for a file is seen to do so', needsFuse(), async (t) => {
  const fuse = await FuseFile.start(t, join(newFolder(t), 'mnt'))
  await fuse.process.kill('SIGSTOP')
  const { pid } = start(t, 'dd', `if=${fuse.path}`, 'of=/dev/null', 'bs=4096', 'count=1')
  const waits = (): boolean => {
    const now = processState(pid)
    return now?.state === 'D' || now?.isInDiskCall === true
  }
  while (!waits()) await new Promise((resolve) => setTimeout(resolve, 5))
  t.ok(processState(pid), 'and it lives')
  await fuse.process.kill('SIGCONT')
})

void t.test('to look at one that waits for a file is not to wait, too', needsFuse(), async (t) => {
  const folder = newFolder(t)
  const fuse = await FuseFile.start(t, join(folder, 'mnt'))
  const [opened, go] = ['opened', 'go'].map((name) => join(folder, name)) as [string, string]
  const wait = `until [ -e ${go} ]; do sleep 0.01; done`
  const { pid } = start(
    t,
    'sh',
    '-c',
    `exec < ${fuse.path}; > ${opened}; ${wait}; exec dd of=/dev/null bs=4096 count=1`,
  )
  while (!existsSync(opened)) await new Promise((resolve) => setTimeout(resolve, 5))
  // The kernel believes nothing that it knows of the file any more.
  const file = await open(fuse.path, 'r+')
  await file.write(Buffer.alloc(512))
  await file.close()
  await fuse.process.kill('SIGSTOP')
  writeFileSync(go, '')
  while (processState(pid)?.isInDiskCall !== true) await new Promise((resolve) => setTimeout(resolve, 5))
  t.match(await readFile(`/proc/${pid}/comm`, 'utf8'), 'dd')
  await fuse.process.kill('SIGCONT')
})
