/** A file in user space: it can be made to hang in the middle of a system call, as a local disk does. */
import { spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { DaemonProcess } from '../../qemu/process.js'
import { requireTool } from './tools.js'

/** Options of a test: without the kernel's part of FUSE it is skipped. The programs come from Debian packages. */
export function needsFuse(): { readonly skip?: string } {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK)
    return {}
  } catch {
    return { skip: 'this machine has no /dev/fuse, or not for us' }
  }
}

export class FuseFile {
  readonly path: string
  /** What carries out its reads and writes. */
  readonly process: DaemonProcess

  private constructor(path: string, process: DaemonProcess) {
    this.path = path
    this.process = process
  }

  /** 32 MiB of zeros in the folder `mount`, which is made. */
  static async start(t: Test, mount: string): Promise<FuseFile> {
    for (const program of ['nbdfuse', 'fusermount3']) requireTool(program)
    const path = join(mount, 'main.img')
    mkdirSync(mount)
    const process = await DaemonProcess.start({
      program: 'nbdfuse',
      args: [path, '[', 'nbdkit', '--exit-with-parent', 'memory', '32M', ']'],
      ready: async (_, signal) => {
        while (!existsSync(path) && !signal.aborted) await new Promise((resolve) => setTimeout(resolve, 5))
      },
    })
    t.teardown(async () => {
      spawnSync('fusermount3', ['-u', '-z', mount])
      await process.kill('SIGKILL')
    })
    return new FuseFile(path, process)
  }
}
