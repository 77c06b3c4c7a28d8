/**
 * Devices by name: `nbd-remap dmsetup` in a runtime directory of the test's own, whose servers end with the test. They run in
 * the background, so a guard ends them when the test process dies, however it dies: its standard input is closed then.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { QmpClient } from '../../src/qmp/client.js'
import { run, type Outcome } from './tools.js'
import { PROGRAM } from './cli.js'

/** With the folder and the program's path as arguments. */
const GUARD = `
cat
for socket in "$1"/run/*.qmp; do
  [ -e "$socket" ] || continue
  NBD_REMAP_RUNTIME_DIR="$1/run" "$2" "$3" dmsetup remove --force "$(basename "$socket" .qmp)"
done
rm -rf "$1"`

export class Devices {
  readonly folder: string

  private constructor(folder: string) {
    this.folder = folder
  }

  /** For all children of this process, too. */
  static open(t: Test): Devices {
    const devices = new Devices(join(mkdtempSync(join(tmpdir(), 'nbdr-')), 'run'))
    process.env['NBD_REMAP_RUNTIME_DIR'] = devices.folder
    const parent = join(devices.folder, '..')
    const guard = spawn('sh', ['-c', GUARD, 'sh', parent, process.execPath, PROGRAM], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    const guardEnded = new Promise((resolve) => guard.once('close', resolve))
    t.teardown(async () => {
      for (const name of devices.names) await devices.kill(name)
      rmSync(parent, { recursive: true, force: true })
      guard.stdin.end()
      await guardEnded
    })
    return devices
  }

  /** `nbd-remap dmsetup ...` to its end. */
  dmsetup(...args: string[]): Promise<Outcome> {
    return run(process.execPath, PROGRAM, 'dmsetup', ...args)
  }

  /** @throws when it fails */
  async dmsetupOk(...args: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.dmsetup(...args)
    if (status !== 0)
      throw new Error(`dmsetup ${args.join(' ')} exited with ${status ?? 'a signal'}:\n${stdout}${stderr}`)
    return stdout
  }

  path(name: string, suffix: string): string {
    return join(this.folder, `${name}.${suffix}`)
  }

  ask(name: string, command: string, args: Record<string, unknown> = {}): Promise<unknown> {
    return QmpClient.connect(this.path(name, 'qmp')).then(async (client) => {
      try {
        return await client.execute(command, args)
      } finally {
        await client.close()
      }
    })
  }

  async pid(name: string): Promise<number> {
    return ((await this.ask(name, 'query-status')) as { pid: number }).pid
  }

  /** As a power cut would. Resolves when the process is gone. */
  async kill(name: string): Promise<void> {
    const pid = await this.pid(name).catch(() => undefined)
    if (pid === undefined) return
    process.kill(-groupOf(pid), 'SIGKILL')
    await run('flock', '--exclusive', this.path(name, 'lock'), 'true')
  }

  private get names(): string[] {
    try {
      return readdirSync(this.folder).flatMap((file) => (file.endsWith('.qmp') ? [file.slice(0, -4)] : []))
    } catch {
      return []
    }
  }
}

/** That of the server, or of its supervisor: each device has one. The name before it may hold anything but is in brackets. */
const groupOf = (pid: number): number =>
  Number(
    readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')[2],
  )
