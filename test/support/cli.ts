/**
 * The program as its users have it: a process with arguments, standard output, standard error and an exit code. What is
 * still running when a test ends is killed, and nothing survives the test process (PR_SET_PDEATHSIG).
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { lstatSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import type { Test } from 'tap'
import { packageRoot } from '../../src/cli/package-version.js'
import { NbdClient } from '../../src/nbd/client.js'
import { QmpClient } from '../../src/qmp/client.js'
import { MiB } from '../../src/util/units.js'

/** For tests that start dozens of processes, on a machine that has other things to do, too. */
export const MANY_PROCESSES_TIMEOUT_MS = 600_000

export const PROGRAM = join(packageRoot(), 'dist/src/cli/bin.cjs')

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export class Program {
  readonly child: ChildProcess
  readonly exited: Promise<Exit>
  stdout = ''
  stderr = ''
  /** It has ended, and all that it has printed was read. */
  #hasEnded = false
  readonly #changed = new EventEmitter().setMaxListeners(0)

  constructor(t: Test, args: readonly string[], { cwd }: { cwd?: string } = {}) {
    // Without the hooks of the test runner, which take a third of a second and 70 MiB.
    const program = ['env', '--unset=NODE_OPTIONS', process.execPath, PROGRAM]
    const command = ['--pdeathsig', 'KILL', ...program, ...args]
    this.child = spawn('setpriv', command, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
      this.#changed.emit('change')
    })
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
      this.#changed.emit('change')
    })
    this.exited = new Promise((resolve) => {
      this.child.once('close', (code, signal) => {
        this.#hasEnded = true
        this.#changed.emit('change')
        resolve({ code, signal })
      })
    })
    t.teardown(async () => {
      if (this.running) this.child.kill('SIGKILL')
      await this.exited
    })
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null
  }

  /** Resolves when `condition` holds, which output or the end of the process may change. @throws when it ends before */
  async until(condition: () => boolean, what: string): Promise<void> {
    while (!condition()) {
      if (this.#hasEnded) throw new Error(`ended before ${what}:\n${this.stdout}${this.stderr}`)
      await once(this.#changed, 'change')
    }
  }

  /** Resolves when standard error has it: what a program says there and what it does elsewhere are seen in any order. */
  says(pattern: RegExp): Promise<void> {
    return this.until(() => pattern.test(this.stderr), `it said ${String(pattern)}`)
  }

  /** Sends a signal, and waits for the end. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<Exit> {
    this.child.kill(signal)
    return this.exited
  }
}

/** Runs a command to its end. */
export async function cli(t: Test, ...args: string[]): Promise<Exit & { stdout: string; stderr: string }> {
  const program = new Program(t, args)
  const exit = await program.exited
  return { ...exit, stdout: program.stdout, stderr: program.stderr }
}

/** Removed when the test ends, with a path that is short enough for sockets. */
export function newFolder(t: Test, parent = tmpdir()): string {
  const folder = mkdtempSync(join(parent, 'nbdr-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  return folder
}

export const MAIN_SIZE = 4 * MiB
export const SPARE_SIZE = 10 * MiB

/** Bytes that are neither zero nor the same anywhere, and other ones for another `seed`. */
export function pattern(length: number, seed = 1): Buffer {
  const buffer = Buffer.alloc(length)
  for (let offset = 0; offset + 4 <= length; offset += 4)
    buffer.writeUInt32LE((seed * 0x9e3779b1 + offset) >>> 0, offset)
  return buffer
}

export function newMain(folder: string, name = 'main.img', seed = 1, size = MAIN_SIZE): string {
  const path = join(folder, name)
  writeFileSync(path, pattern(size, seed))
  return path
}

/** A blank file. */
export function newSpare(folder: string, name = 'spare.img', size = SPARE_SIZE): string {
  const path = join(folder, name)
  writeFileSync(path, '')
  truncateSync(path, size)
  return path
}

export interface PairFiles {
  readonly folder: string
  readonly main: string
  readonly spare: string
}

export function newPair(t: Test, folder = newFolder(t)): PairFiles {
  return { folder, main: newMain(folder), spare: newSpare(folder) }
}

/** What stands at a path, to be compared later. */
export function digest(path: string): string {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (!stats) return 'nothing'
  if (!stats.isFile()) return `${stats.mode} ${stats.ino}`
  return `${stats.mode} ${stats.ino} ${createHash('sha256').update(readFileSync(path)).digest('hex')}`
}

const LOG_LINE = /^\d{4}-\d\d-\d\dT[\d:.]+Z (debug|info|warn|error) /

/** The lines of standard error that are not log lines. */
export const saidOf = (stderr: string): string[] =>
  stderr.split('\n').filter((line) => line !== '' && !LOG_LINE.test(line))

/**
 * Runs a command that must fail: with `code`, nothing on standard output, exactly one sentence on standard error that
 * matches, and all `files` as they were.
 * @returns the sentence
 */
export async function fails(
  t: Test,
  code: number,
  sentence: RegExp,
  args: readonly string[],
  files: readonly string[] = [],
): Promise<string> {
  const before = files.map(digest)
  const result = await cli(t, ...args)
  const [said = '', ...more] = saidOf(result.stderr)
  t.equal(result.code, code, `exit code of: ${args.join(' ')}`)
  t.match(said, sentence)
  t.match(said, /^nbd-remap: \S/, 'begins with the name of the program')
  t.same(more, [], 'one sentence, no stack trace')
  t.equal(result.stdout, '', 'nothing on standard output')
  t.same(files.map(digest), before, 'nothing was written')
  return said
}

export interface ServeFiles {
  readonly folder: string
  readonly main: string
  readonly spare: string
}

/** What a program has written to one pipe before what was read from another one is read in the same turn or the next. */
async function outputIsRead(): Promise<void> {
  await setImmediate()
  await setImmediate()
}

/** `nbd-remap serve` on sockets in its folder, or with `--listen` among the arguments on TCP. */
export class Serve extends Program {
  readonly socketPath: string
  readonly controlPath: string

  private constructor(t: Test, { folder, main, spare }: ServeFiles, args: readonly string[], name: string) {
    const socketPath = join(folder, `${name}.sock`)
    const controlPath = join(folder, `${name}.qmp`)
    const socket = args.includes('--listen') ? [] : ['--socket', socketPath]
    super(t, ['serve', '--main', main, '--spare', spare, ...socket, '--control', controlPath, ...args])
    this.socketPath = socketPath
    this.controlPath = controlPath
  }

  /** Does not wait. */
  static begin(t: Test, files: ServeFiles, args: readonly string[] = [], name = 'a'): Serve {
    return new Serve(t, files, args, name)
  }

  /** Resolves when it has printed its URI, and all that it said before that was read. */
  static async start(t: Test, files: ServeFiles, args: readonly string[] = ['--create'], name = 'a'): Promise<Serve> {
    const server = Serve.begin(t, files, args, name)
    await server.until(() => server.stdout.includes('\n'), 'it printed its URI')
    await outputIsRead()
    return server
  }

  get uri(): string {
    return this.stdout.split('\n')[0] ?? ''
  }

  connect(): Promise<NbdClient> {
    return NbdClient.connect(this.uri)
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const client = await this.connect()
    const content = Buffer.alloc(length)
    await client.read(offset, content)
    await client.disconnect()
    return content
  }

  async ask<T>(command: string, args: Record<string, unknown> = {}): Promise<T> {
    const client = await QmpClient.connect(this.controlPath)
    try {
      return (await client.execute(command, args)) as T
    } finally {
      await client.close()
    }
  }
}
