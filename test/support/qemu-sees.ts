/** QEMU with a disk attached as a document says: whether it takes the options, and which disk it has then. */
import { join } from 'node:path'
import type { Test } from 'tap'
import { DaemonProcess } from '../../qemu/index.js'
import { QmpListener } from '../../qemu/qmp-listener.js'
import { READY_TIMEOUT_MS } from '../../qemu/process.js'

interface BlockInfo {
  readonly inserted?: { readonly image: { readonly 'virtual-size': number; readonly filename: string } }
}

/** Starts a machine that never runs. @returns the name that QEMU has for the disk, and its size */
export async function diskThatQemuSees(directory: string, options: string): Promise<{ name: string; size: number }> {
  const listener = await QmpListener.open(join(directory, 'qemu.qmp'))
  const machine = ['-nodefaults', '-no-user-config', '-display', 'none', '-S', '-M', 'pc', '-m', '64M']
  const monitor = ['-chardev', `socket,id=qmp,path=${listener.path}`, '-mon', 'chardev=qmp,mode=control']
  const args = [...machine, ...options.trim().split(' '), ...monitor]
  const qemu = await DaemonProcess.start({ program: 'qemu-system-x86_64', args })
  try {
    const qmp = await listener.client(qemu, READY_TIMEOUT_MS)
    const [found] = (await qmp.execute('query-block')) as BlockInfo[]
    await qmp.close()
    const image = found?.inserted?.image
    return { name: image?.filename ?? '', size: image?.['virtual-size'] ?? 0 }
  } finally {
    await qemu.close()
    listener.close()
  }
}

export async function qemuSees(t: Test, directory: string, options: string, size: number): Promise<void> {
  t.equal((await diskThatQemuSees(directory, options)).size, size, options)
}
