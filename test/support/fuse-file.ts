/** A file in user space: it can be made to hang in the middle of a system call, as a local disk does. */
import { spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { DaemonProcess } from '../../qemu/process.js'

export function isFuseToBeHad(): boolean {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK)
    return spawnSync('nbdfuse', ['--version']).status === 0
  } catch {
    return false
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
