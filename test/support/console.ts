/** What the tests of the console talk to, and where it keeps what it remembers. */
import { join } from 'node:path'
import type { Test } from 'tap'
import type { QmpClient } from '../../src/qmp/client.js'
import { newFolder } from './cli.js'
import { qemuMonitor } from './qemu-monitor.js'

export interface QemuForConsole {
  /** Of the socket that QEMU listens on, for the program under test. */
  readonly path: string
  /** Another monitor, for the test. */
  readonly qmp: QmpClient
}

/** QEMU without a guest, which runs; its block nodes disk0 and disk1 have 1 MiB each. */
export async function qemuForConsole(t: Test, folder = newFolder(t)): Promise<QemuForConsole> {
  const path = join(folder, 'qemu.qmp')
  const disks = ['disk0', 'disk1'].map((name) => `-blockdev driver=null-co,node-name=${name},size=1048576`)
  const qmp = await qemuMonitor(t, `-qmp unix:${path},server=on,wait=off ${disks.join(' ')}`)
  t.teardown(() => qmp.close())
  await qmp.execute('cont')
  return { path, qmp }
}

/** History and cached schemas go into a folder of the test: programs inherit the environment. @returns the history's path */
export function separateHome(t: Test): string {
  const home = newFolder(t)
  process.env['XDG_STATE_HOME'] = join(home, 'state')
  process.env['XDG_CACHE_HOME'] = join(home, 'cache')
  return join(home, 'state/nbd-remap/console-history')
}
