/**
 * The guest's kernel, initramfs, kernel command line and processor. The image is looked up, never built, here: `images/build` builds
 * it during set-up, and is asked where it is, so that the key of the cache is computed in one place.
 */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { packageRoot } from './package-root.js'

export interface GuestImage {
  /** Path of the kernel, for QEMU's `-kernel`. */
  readonly kernel: string
  /** Path of the initramfs, for QEMU's `-initrd`. */
  readonly initrd: string
  /** The kernel command line, for QEMU's `-append`. */
  readonly append: string
  /** The processor, for QEMU's `-cpu`. */
  readonly cpu: string
}

export class GuestImageError extends Error {
  override name = 'GuestImageError'
}

/**
 * Errors still reach the serial console, and everything reaches dmesg. A panic ends QEMU when it runs with `-no-reboot`.
 * The second half is for speed and peace under emulation: without it booting takes half a second longer, and a busy host
 * makes the kernel suspect its clock and report lockups.
 */
export const GUEST_KERNEL_ARGUMENTS = [
  'console=ttyS0',
  'loglevel=4',
  'log_buf_len=1M',
  'panic=-1',
  'cryptomgr.notests',
  'rcupdate.rcu_expedited=1',
  'mitigations=off',
  'no_timer_check',
  'tsc=reliable',
  'nowatchdog',
].join(' ')

/** Without a source of random numbers the kernel lets mkfs.ext4 wait four seconds for them. */
export const GUEST_CPU = 'qemu64,+rdrand'

/** @throws GuestImageError when the image was not built yet; the message says what to do */
export async function guestImage(): Promise<GuestImage> {
  const folder = await imageFolder(join(packageRoot(), 'images', 'build'))
  return {
    kernel: join(folder, 'vmlinuz'),
    initrd: join(folder, 'initramfs'),
    append: GUEST_KERNEL_ARGUMENTS,
    cpu: GUEST_CPU,
  }
}

async function imageFolder(build: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(build, ['--print'])
    return stdout.trimEnd()
  } catch (error) {
    const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : ''
    throw new GuestImageError(said === '' ? `cannot run ${build}` : said, { cause: error })
  }
}
