/** Real clients as child processes. A tool that is not installed fails the test with the Debian package that has it. */

import { spawn, spawnSync } from 'node:child_process'

const PACKAGES: Readonly<Record<string, string>> = {
  fio: 'fio',
  fish: 'fish',
  fusermount3: 'fuse3',
  groff: 'groff-base',
  openssl: 'openssl',
  nbdcopy: 'libnbd-bin',
  nbdfuse: 'libnbd-bin',
  nbdinfo: 'libnbd-bin',
  '/usr/bin/python3': 'python3-libnbd',
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  '/usr/sbin/nbd-client': 'nbd-client',
  'systemd-analyze': 'systemd',
  virsh: 'libvirt-clients',
  'virt-xml-validate': 'libvirt-clients',
  '/usr/sbin/sfdisk': 'fdisk',
  '/usr/sbin/mke2fs': 'e2fsprogs',
  xmllint: 'libxml2-utils',
  zsh: 'zsh',
}

const isNeeded = (command: string): string => `${command} is needed: apt-get install ${PACKAGES[command] ?? command}`

/** @throws Error with the Debian package to install */
export function requireTool(command: string): void {
  if (spawnSync(command, ['--version']).error) throw new Error(isNeeded(command))
}

export interface Outcome {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

export function run(command: string, ...args: string[]): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (data: Buffer) => (stdout += data.toString()))
    child.stderr.on('data', (data: Buffer) => (stderr += data.toString()))
    child.once('error', (error) => {
      reject(new Error(isNeeded(command), { cause: error }))
    })
    child.once('close', (status) => {
      resolve({ status, stdout, stderr })
    })
  })
}

/** @returns the standard output. @throws when the command fails, with all that it said */
export async function runOk(command: string, ...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await run(command, ...args)
  if (status !== 0)
    throw new Error(`${command} ${args.join(' ')} exited with ${status ?? 'a signal'}:\n${stdout}${stderr}`)
  return stdout
}

/** A Python program with libnbd's module and a handle `h`, connected after `setUp`. */
export const nbdsh = (uri: string, program: string, setUp = ''): Promise<string> =>
  runOk(
    '/usr/bin/python3',
    '-c',
    `import nbd\nh = nbd.NBD()\n${setUp}\nh.connect_uri(${JSON.stringify(uri)})\n${program}`,
  )
