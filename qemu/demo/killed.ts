/** Act d: the server dies in the middle of writes, again and again. */
import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import { GuestCommandError, type Guest } from '../guest.js'
import type { RemapServer } from '../remap-server.js'
import { FILE_KIB, UNUSED_BLOCK, type Ensemble } from './ensemble.js'
import { checkFiles, kernelErrors, writeFiles, type KnownFile } from './files.js'
import type { Claim, Narrator } from './narrator.js'
import type { Stage } from './stage.js'

const KILLS = 3
const PAUSE_MAX_MS = 1000
const FILES_WRITTEN_AGAIN = 8
const PULSE_TIMEOUT_MS = 120_000
const CONTROL_POLL_MS = 20

export async function actKilled(stage: Stage, narrator: Narrator, ensemble: Ensemble): Promise<Claim[]> {
  const { guest, files } = ensemble
  narrator.act('d. The server is killed in the middle of writes, and comes back')
  const errorsBefore = (await kernelErrors(guest)).length
  const curtain = new AbortController()
  const [inFlight, written, pulse] = await Promise.all([
    killAgainAndAgain(stage, narrator, ensemble.server).finally(() => {
      curtain.abort()
    }),
    writeUntil(curtain.signal, guest),
    pulseUntil(curtain.signal, guest),
  ])
  await guest.run('sync')
  files.push(...written.files)
  const check = await checkFiles(guest, files)
  const errors = (await kernelErrors(guest)).length - errorsBefore
  narrator.fact(`requests in flight at the kills: ${inFlight.join(', ')}`)
  narrator.fact(`the longest pause that the guest saw between two of ${pulse.writes} writes was ${pulse.longestMs} ms`)
  const failures = [written.failure, pulse.failure].flatMap((failure) => failure ?? [])
  for (const failure of failures) narrator.fact(failure)
  const { longestMs } = pulse
  const name = 'longest pause between two writes of the guest'
  stage.timeline.measurements.push({ name, value: longestMs, unit: 'ms', limit: PAUSE_MAX_MS })
  const unharmed = errors === 0 && check.damaged.length === 0 && failures.length === 0
  return [
    {
      act: 'd',
      claim: `the server is killed ${KILLS} times while it works on writes: the guest goes on without an error`,
      measured: `${errors} errors in its kernel log, ${check.intact} of ${files.length} files intact`,
      holds: unharmed && inFlight.every((requests) => requests > 0),
    },
    {
      act: 'd',
      claim: 'the pause that the guest sees is under 1 second',
      measured: `${pulse.longestMs} ms`,
      holds: pulse.longestMs < PAUSE_MAX_MS,
    },
  ]
}

/** @returns how many requests were in flight at each kill */
async function killAgainAndAgain(stage: Stage, narrator: Narrator, server: RemapServer): Promise<number[]> {
  const inFlight: number[] = []
  for (let kill = 1; kill <= KILLS; kill++) {
    // Not a wait for a state: the moment of the kill is drawn, so that it falls anywhere in the stream of writes.
    await pause(1000 + stage.random.below(1000), undefined, stage.abortable)
    const { pid, requests } = await whileWriting(server)
    narrator.step(`SIGKILL to the server (process ${pid}), ${kill} of ${KILLS}`)
    stage.timeline.mark('kill', `SIGKILL to the server, requests in flight: ${requests}`)
    process.kill(pid, 'SIGKILL')
    inFlight.push(requests)
    await waitForOtherWorker(stage, server, pid)
  }
  return inFlight
}

interface Status {
  readonly pid: number
  readonly clients: readonly { readonly 'requests-in-flight': number }[]
}

/** Asks until the guest has requests in flight. */
async function whileWriting(server: RemapServer): Promise<{ pid: number; requests: number }> {
  const control = await server.control()
  try {
    for (;;) {
      const { pid, clients } = (await control.execute('query-status')) as Status
      const requests = clients.reduce((sum, client) => sum + client['requests-in-flight'], 0)
      if (requests > 0) return { pid, requests }
    }
  } finally {
    await control.close()
  }
}

/** The control socket belongs to the worker: it answers again when the next worker serves. */
async function waitForOtherWorker(stage: Stage, server: RemapServer, pid: number): Promise<void> {
  while ((await server.workerPid().catch(() => pid)) === pid) {
    if (!server.process.running) throw server.process.error('the server did not come back')
    await pause(CONTROL_POLL_MS, undefined, stage.abortable)
  }
}

/** Writes the same few files again and again. @returns their latest content, and what went wrong */
async function writeUntil(end: AbortSignal, guest: Guest): Promise<{ files: KnownFile[]; failure?: string }> {
  const latest = new Map<string, KnownFile>()
  try {
    for (let n = 0; !end.aborted; n = (n + 1) % FILES_WRITTEN_AGAIN) {
      for (const file of await writeFiles(guest, [`again-${n}`], FILE_KIB)) latest.set(file.path, file)
    }
  } catch (error) {
    if (!(error instanceof GuestCommandError)) throw error
    return { files: [...latest.values()], failure: error.message }
  }
  return { files: [...latest.values()] }
}

interface Pulse {
  readonly longestMs: number
  readonly writes: number
  readonly failure?: string
}

async function pulseUntil(end: AbortSignal, guest: Guest): Promise<Pulse> {
  const pulse = guest.run(PULSE, { timeoutMs: PULSE_TIMEOUT_MS })
  const [{ status, stdout }] = await Promise.all([
    pulse,
    once(end, 'abort').then(() => guest.run('touch /tmp/pulse-stop')),
  ])
  const [longest = NaN, writes = NaN] = stdout.trim().split(' ').map(Number)
  if (status !== 0) return { longestMs: NaN, writes: 0, failure: 'a direct write of the guest failed' }
  return { longestMs: longest * 10, writes }
}

/**
 * Writes 4 KiB to the disk, past file system and page cache, whose own pauses are not to be measured, again and again.
 * Prints the longest time from one write to the next in hundredths of a second, and the number of writes.
 */
const PULSE = `
  rm -f /tmp/pulse-stop; head -c 4096 /dev/urandom > /tmp/pulse; longest=0; writes=0
  read now rest < /proc/uptime; last=\${now%.*}\${now#*.}
  while [ ! -e /tmp/pulse-stop ]; do
    dd if=/tmp/pulse of=/dev/vda bs=4096 seek=${UNUSED_BLOCK} count=1 conv=notrunc oflag=direct 2>/dev/null || exit 1
    read now rest < /proc/uptime; now=\${now%.*}\${now#*.}
    gap=$((now - last)); last=$now; writes=$((writes + 1))
    [ $gap -gt $longest ] && longest=$gap
  done
  echo "$longest $writes"`
