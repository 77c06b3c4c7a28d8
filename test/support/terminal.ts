/**
 * A program on a terminal: a pseudo-terminal that Python holds, since Node.js has none. What the program wrote stands in
 * `output` as it came, with its control sequences.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import type { Test } from 'tap'
import { PROGRAM } from './cli.js'
import { screenAfter, type Screen } from './screen.js'

/** Takes lines on standard input: `key TEXT` (a JSON string), `size COLUMNS ROWS`, `signal NUMBER`. At the end it tells how it came to it. */
const HOLDER = `
import fcntl, json, os, pty, select, struct, sys, termios
def resize(columns, rows):
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack('HHHH', int(rows), int(columns), 0, 0))
master, slave = pty.openpty()
resize(sys.argv[1], sys.argv[2])
before = termios.tcgetattr(slave)
child = os.fork()
if child == 0:
    os.close(master)
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2): os.dup2(slave, fd)
    os.execvp(sys.argv[3], sys.argv[3:])
commands = b''
status = None
inputs = [master, 0]
while status is None or select.select([master], [], [], 0)[0]:
    for fd in select.select(inputs, [], [], 0.02)[0]:
        data = os.read(fd, 65536)
        if fd == master:
            os.write(1, data)
            continue
        if not data: inputs.remove(0)
        commands += data
        while b'\\n' in commands:
            line, commands = commands.split(b'\\n', 1)
            word, rest = line.decode().split(' ', 1)
            if word == 'key': os.write(master, json.loads(rest).encode())
            elif word == 'size': resize(*rest.split())
            elif word == 'signal': os.kill(child, int(rest))
    if status is None:
        pid, ended = os.waitpid(child, os.WNOHANG)
        if pid: status = ended
code = os.waitstatus_to_exitcode(status)
sys.stderr.write(json.dumps({'code': code, 'restored': termios.tcgetattr(slave) == before}))
`

export interface TerminalEnd {
  readonly code: number
  /** The terminal's modes are as they were. */
  readonly restored: boolean
}

export class Terminal {
  output = ''
  readonly ended: Promise<TerminalEnd>
  readonly #child: ChildProcess
  #columns: number
  #changed: () => void = () => undefined

  constructor(t: Test, args: readonly string[], { columns = 80, rows = 24 } = {}) {
    this.#columns = columns
    const command = ['-c', HOLDER, String(columns), String(rows), process.execPath, PROGRAM, ...args]
    const holder = ['--pdeathsig', 'KILL', '/usr/bin/python3', ...command]
    this.#child = spawn('setpriv', holder, { stdio: ['pipe', 'pipe', 'pipe'] })
    let said = ''
    this.#child.stderr?.on('data', (data: Buffer) => (said += data.toString()))
    this.#child.stdout?.on('data', (data: Buffer) => {
      this.output += data.toString()
      this.#changed()
    })
    this.ended = new Promise((resolve, reject) => {
      this.#child.once('close', () => {
        this.#changed()
        try {
          resolve(JSON.parse(said) as TerminalEnd)
        } catch {
          reject(new Error(`the terminal's holder failed: ${said}`))
        }
      })
    })
    this.ended.catch(() => undefined)
    t.teardown(() => {
      this.#child.kill('SIGKILL')
      // Whoever waits for what never comes wants to know what came.
      if (!t.passing()) process.stderr.write(`the terminal had written:\n${JSON.stringify(this.output)}\n`)
    })
  }

  type(text: string): void {
    this.#child.stdin?.write(`key ${JSON.stringify(text)}\n`)
  }

  resize(columns: number, rows: number): void {
    this.#columns = columns
    this.#child.stdin?.write(`size ${columns} ${rows}\n`)
  }

  signal(number: number): void {
    this.#child.stdin?.write(`signal ${number}\n`)
  }

  /** Forgets what was shown, so that `until` waits for what comes next. */
  forget(): void {
    this.output = ''
  }

  /** Waits for a picture that matches, drawn from the upper left corner. @returns it @throws when the program ends before */
  async frame(pattern: RegExp): Promise<string> {
    const find = (): string | undefined =>
      this.output.split('\u001b[H').find((frame) => frame.endsWith('\u001b[J') && pattern.test(frame))
    await this.#until(() => find() !== undefined, pattern)
    return find() ?? ''
  }

  /** Resolves when what was shown matches. @throws when the program ends before */
  until(pattern: RegExp): Promise<void> {
    return this.#until(() => pattern.test(this.output), pattern)
  }

  /** What is seen of `output`, for programs that write line by line. */
  get screen(): Screen {
    return screenAfter(this.output, this.#columns)
  }

  /** Resolves when the rows that are seen, joined by newlines, match. @throws when the program ends before */
  untilSeen(pattern: RegExp): Promise<void> {
    return this.#until(() => pattern.test(this.screen.rows.join('\n')), pattern)
  }

  async #until(condition: () => boolean, pattern: RegExp): Promise<void> {
    while (!condition()) {
      if (this.#child.exitCode !== null) throw new Error(`ended without ${String(pattern)}:\n${this.output}`)
      await new Promise<void>((resolve) => {
        this.#changed = resolve
      })
    }
  }
}
