/**
 * Finds the holes of a sparse file. Node.js has no lseek(2), so SEEK_HOLE and SEEK_DATA are asked for by a helper process
 * in Perl (essential in Debian), which is started at the first question and answers one line for each. Without Perl, or
 * where the file system has no answer, all is data: correct, and of no use to a client that wants to skip holes.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { fstat } from 'node:fs'
import { createInterface } from 'node:readline'
import type { AllocationExtent } from './device.js'

/**
 * Reads `OFFSET END COUNT` and answers `d LENGTH h LENGTH ...`, or an empty line when it cannot say. 3 and 4 are
 * SEEK_DATA and SEEK_HOLE; error 6 is ENXIO: no data from here to the end of the file.
 */
const PROGRAM = `
$| = 1;
open(my $file, '<', $ARGV[0]) or exit 1;
while (my $question = <STDIN>) {
  my ($at, $end, $count) = split(' ', $question);
  my @answer;
  while ($at < $end && @answer < 2 * $count) {
    my $data = sysseek($file, $at, 3);
    $data = $end if !defined($data) && $! == 6;
    my $next = defined($data) && $data <= $at ? sysseek($file, $at, 4) : $data;
    if (!defined($next)) { @answer = (); last }
    $next = $end if $next > $end;
    push(@answer, $data > $at ? 'h' : 'd', $next - $at) if $next > $at;
    $at = $next;
  }
  print "@answer\\n";
}`

const BLOCK = 512n
const allData = (length: number): AllocationExtent[] => [{ length, allocation: 'data' }]

export class HoleFinder {
  readonly #fd: number
  #helper: ChildProcess | undefined
  /** Of questions without an answer, in their order. */
  #waiting: ((answer: string) => void)[] = []
  /** There is no helper, or it has ended: it is not tried again. */
  #unavailable = false

  /** @param fd of a regular file; stays the caller's */
  constructor(fd: number) {
    this.#fd = fd
  }

  /** As `Device.extents`. Never rejects. */
  async extents(offset: number, length: number, countMax: number): Promise<AllocationExtent[]> {
    if (length === 0 || this.#unavailable || !(await this.#isSparse())) return allData(length)
    const extents = parseAnswer(await this.#ask(`${offset} ${offset + length} ${countMax}\n`))
    return extents.length > 0 ? extents : allData(length)
  }

  close(): void {
    this.#unavailable = true
    this.#helper?.kill('SIGKILL')
  }

  /** A file with a block for every byte has no holes, and needs no helper. */
  #isSparse(): Promise<boolean> {
    return new Promise((resolve) => {
      fstat(this.#fd, { bigint: true }, (error, stats) => {
        resolve(error === null && stats.blocks * BLOCK < stats.size)
      })
    })
  }

  #ask(question: string): Promise<string> {
    return new Promise((resolve) => {
      this.#helper ??= this.#start()
      if (this.#unavailable) {
        resolve('')
        return
      }
      this.#waiting.push(resolve)
      this.#helper.stdin?.write(question)
    })
  }

  #start(): ChildProcess {
    // Opened anew through /proc: a descriptor that the helper inherited would keep our lock when we are killed.
    const file = `/proc/${process.pid}/fd/${this.#fd}`
    const helper = spawn('perl', ['-e', PROGRAM, file], { stdio: ['pipe', 'pipe', 'ignore'] })
    const gone = (): void => {
      this.#unavailable = true
      for (const resolve of this.#waiting.splice(0)) resolve('')
    }
    helper.once('error', gone)
    helper.once('exit', gone)
    helper.stdin.on('error', gone)
    createInterface(helper.stdout).on('line', (line) => this.#waiting.shift()?.(line))
    return helper
  }
}

function parseAnswer(answer: string): AllocationExtent[] {
  const extents: AllocationExtent[] = []
  for (const [, kind, length] of answer.matchAll(/([dh]) (\d+)/g)) {
    extents.push({ length: Number(length), allocation: kind === 'h' ? 'hole' : 'data' })
  }
  return extents
}
