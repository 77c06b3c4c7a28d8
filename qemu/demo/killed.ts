/** Act d: the server dies in the middle of writes, again and again. */
import { setTimeout as pause } from 'node:timers/promises'
import type { RemapServer } from '../remap-server.js'
import { FILE_KIB, type Ensemble } from './ensemble.js'
import { checkFiles, kernelErrors, writeFile, type KnownFile } from './files.js'
import type { Claim, Narrator } from './narrator.js'
import type { Stage } from './stage.js'

const KILLS = 3
const PAUSE_MAX_MS = 1000

export async function actKilled(stage: Stage, narrator: Narrator, ensemble: Ensemble): Promise<Claim[]> {
  const { guest, files, server } = ensemble
  narrator.act('The server is killed in the middle of writes, and comes back')
  const errorsBefore = (await kernelErrors(guest)).length
  const pulse = guest.run(PULSE, { timeoutMs: 120_000 })
  let writing = true
  const writes = (async () => {
    const written: KnownFile[] = []
    while (writing) written.push(await writeFile(guest, `/mnt/again-${written.length % 8}`, FILE_KIB))
    return written
  })()
  for (let kill = 1; kill <= KILLS; kill++) {
    // Not a wait for a state: the moment of the kill is drawn, so that it falls anywhere in the stream of writes.
    await pause(1500 + stage.random.below(1000))
    const pid = await server.workerPid()
    narrator.step(`SIGKILL to the server (process ${pid}), ${kill} of ${KILLS}`)
    process.kill(pid, 'SIGKILL')
    await waitForOtherWorker(server, pid)
  }
  writing = false
  const latest = new Map((await writes).map((file) => [file.path, file]))
  await guest.check('touch /tmp/pulse-stop && sync')
  const pulsed = await pulse
  const gapMs = Number(pulsed.stdout.trim().split(' ')[0]) * 10
  files.push(...latest.values())
  const check = await checkFiles(guest, files)
  const errors = (await kernelErrors(guest)).length - errorsBefore
  narrator.fact(`the longest pause that the guest saw between two writes was ${gapMs} ms`)
  return [
    {
      act: 'd',
      claim: `the server is killed ${KILLS} times: the guest goes on without an error`,
      measured: `${errors} errors in its kernel log, ${check.intact} of ${files.length} files intact, status ${pulsed.status}`,
      holds: errors === 0 && check.damaged.length === 0 && pulsed.status === 0,
    },
    {
      act: 'd',
      claim: 'the pause that the guest sees is under 1 second',
      measured: `${gapMs} ms`,
      holds: gapMs < PAUSE_MAX_MS,
    },
  ]
}

/**
 * Writes 4 KiB to the disk, past the page cache, again and again, and prints the longest time from one write to the
 * next in hundredths of a second, and the number of writes.
 */
const PULSE = `
  rm -f /tmp/pulse-stop; head -c 4096 /dev/urandom > /tmp/pulse; longest=0; writes=0
  read now rest < /proc/uptime; last=\${now%.*}\${now#*.}
  while [ ! -e /tmp/pulse-stop ]; do
    dd if=/tmp/pulse of=/mnt/pulse bs=4096 count=1 conv=notrunc oflag=direct 2>/dev/null || exit 1
    read now rest < /proc/uptime; now=\${now%.*}\${now#*.}
    gap=$((now - last)); last=$now; writes=$((writes + 1))
    [ $gap -gt $longest ] && longest=$gap
  done
  echo "$longest $writes"`

/** The control socket belongs to the worker: it answers again when the next worker serves. */
async function waitForOtherWorker(server: RemapServer, pid: number): Promise<void> {
  for (;;) {
    const now = await server.workerPid().catch(() => pid)
    if (now !== pid) return
    await pause(20)
  }
}
