/** The five acts of the demonstration. Each returns what it claims, with what was measured. */
import { execFile } from 'node:child_process'
import { open } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { SECTOR_SIZE, sector } from '../../src/util/units.js'
import type { FaultInjector } from '../faults.js'
import type { Guest, GuestResult } from '../guest.js'
import type { Machine } from '../machine.js'
import type { RemapServer } from '../remap-server.js'
import { checkFiles, kernelErrors, writeFile, type KnownFile } from './files.js'
import type { Claim, Narrator } from './narrator.js'
import { sectorOfBlock, type Stage } from './stage.js'

/** How long QEMU holds requests while the server is away. */
const RECONNECT_DELAY_SECONDS = 30
const MOUNT = 'mount -t ext4 /dev/vda /mnt'
const MKFS = 'mkfs.ext4 -q -F -b 4096 /dev/vda'

const FILES = 64
const FILE_KIB = 1024
const BARE_FILES = 16
const BAD_BLOCKS = 400
const WAVES = 8
const KILLS = 3
const PAUSE_MAX_MS = 1000

/** Everything that runs after the second act has begun. */
export interface Ensemble {
  readonly server: RemapServer
  readonly machine: Machine
  readonly guest: Guest
  readonly faults: FaultInjector
  readonly files: KnownFile[]
}

// --- a: without nbd-remap -----------------------------------------------------------------------------------------

export async function actUnprotected(stage: Stage, narrator: Narrator): Promise<Claim[]> {
  narrator.act('Without nbd-remap: the guest sits on the failing disk itself')
  narrator.step('booting the guest and making an ext4 file system')
  const { machine, guest } = await stage.startMachine(stage.bareDisk())
  await guest.check(`${MKFS} && ${MOUNT}`)
  await stage
    .faults('bare')
    .set(stage.drawBlocks(BAD_BLOCKS).map((at) => ({ sector: at, operation: 'write' as const })))
  narrator.step(`${BAD_BLOCKS} blocks of the disk are bad now; writing ${BARE_FILES} files`)
  const files: KnownFile[] = []
  for (let n = 0; n < BARE_FILES; n++) {
    // Writing to a file system that has gone read-only fails: that is what is shown here.
    const file = await writeFile(guest, `/mnt/file-${n}`, FILE_KIB).catch(() => undefined)
    files.push(file ?? { path: `/mnt/file-${n}`, sha256: 'never written' })
  }
  await guest.run('sync')
  const { damaged } = await checkFiles(guest, files)
  const errors = await kernelErrors(guest)
  for (const line of pickTelling(errors)) narrator.fact(`guest's kernel: ${line}`)
  narrator.fact(`${damaged.length} of ${files.length} files are damaged or gone`)
  guest.close()
  await machine.kill()
  return [
    {
      act: 'a',
      claim: 'without nbd-remap the guest loses data',
      measured: `${damaged.length} of ${files.length} files lost, ${errors.length} errors in its kernel log`,
      holds: damaged.length > 0 && errors.length > 0,
    },
  ]
}

/** One line of each kind, for there are hundreds. */
function pickTelling(errors: readonly string[]): string[] {
  const kinds = [/EXT4-fs error/, /Aborting journal/, /Remounting/, /lost async page write/, /I\/O error, dev/]
  return kinds.flatMap((kind) => errors.find((line) => kind.test(line)) ?? []).slice(0, 3)
}

// --- b: with nbd-remap --------------------------------------------------------------------------------------------

export async function actProtected(stage: Stage, narrator: Narrator): Promise<{ claims: Claim[]; ensemble: Ensemble }> {
  narrator.act('With nbd-remap: the same kind of disk, the same kind of faults')
  narrator.step('starting the server and booting the guest')
  const faults = stage.faults('main')
  const server = await stage.startServer(['--create'])
  const { machine, guest } = await stage.startMachine(remapDisk(server))
  narrator.step('making an ext4 file system while the first blocks go bad')
  const bad = stage.drawBlocks(BAD_BLOCKS).map((at) => ({ sector: at, operation: 'write' as const }))
  const wave = (n: number): typeof bad => bad.slice(0, Math.ceil(((n + 1) * bad.length) / WAVES))
  await faults.set(wave(0))
  await guest.check(`${MKFS} && ${MOUNT}`)
  const files: KnownFile[] = []
  for (let n = 0; n < WAVES; n++) {
    const spreading = faults.set(wave(n))
    for (let i = 0; i < FILES / WAVES; i++) {
      narrator.step(`writing file ${files.length + 1} of ${FILES}; ${wave(n).length} blocks are bad`)
      files.push(await writeFile(guest, `/mnt/file-${files.length}`, FILE_KIB))
    }
    await spreading
  }
  await guest.check('sync')
  narrator.step('making every remapped block unreadable, too, and reading all files from the disk')
  const remapped = await remappedSectors(server)
  await faults.set([...bad, ...remapped.map((at) => ({ sector: sector(at), operation: 'read' as const }))])
  const check = await checkFiles(guest, files)
  await guest.check('umount /mnt')
  const fsck = await guest.run('e2fsck -fn /dev/vda')
  await guest.check(MOUNT)
  const errors = await kernelErrors(guest)
  narrator.fact(`${remapped.length} blocks were remapped; the guest's kernel log has ${errors.length} errors`)
  return {
    claims: protectedClaims(remapped.length, check.intact, files.length, errors, fsck.status),
    ensemble: { server, machine, guest, faults, files },
  }
}

function protectedClaims(remapped: number, intact: number, files: number, errors: string[], fsck: number): Claim[] {
  return [
    {
      act: 'b',
      claim: 'at least 200 blocks go bad while the guest writes, and those it wrote to are remapped',
      measured: `${BAD_BLOCKS} bad, ${remapped} remapped`,
      holds: remapped > 0,
    },
    {
      act: 'b',
      claim: 'the guest sees no I/O error',
      measured: `${errors.length} errors in its kernel log`,
      holds: errors.length === 0,
    },
    {
      act: 'b',
      claim: 'all files have their checksums after dropping caches',
      measured: `${intact} of ${files} files (${(files * FILE_KIB) / 1024} MiB)`,
      holds: intact === files,
    },
    { act: 'b', claim: 'e2fsck finds nothing wrong', measured: `exit code ${fsck}`, holds: fsck === 0 },
  ]
}

/** The disk as the server exports it, with a QEMU that waits while the server is away. */
const remapDisk = (server: RemapServer) => ({
  path: server.socketPath,
  exportName: 'disk',
  reconnectDelaySeconds: RECONNECT_DELAY_SECONDS,
})

interface RemapsAnswer {
  readonly remaps: readonly { readonly 'main-sector': number; readonly sectors: number }[]
}

/** The first sector of every remapped block. */
async function remappedSectors(server: RemapServer): Promise<number[]> {
  const { remaps } = await server.ask<RemapsAnswer>('query-remaps', { limit: 100_000 })
  return remaps.flatMap((range) => Array.from({ length: range.sectors / 8 }, (_, n) => range['main-sector'] + n * 8))
}

// --- c: an unreadable sector --------------------------------------------------------------------------------------

export async function actUnreadable(stage: Stage, narrator: Narrator, ensemble: Ensemble): Promise<Claim[]> {
  const { guest, faults, files, server } = ensemble
  narrator.act('An unreadable sector, told honestly')
  const remapped = new Set(await remappedSectors(server))
  const victim = stage.random.pick(files)
  const { block, index } = await pickBlock(stage, guest, victim, remapped)
  narrator.step(`sector ${sectorOfBlock(block) + 3}, in the middle of ${victim.path}, cannot be read any more`)
  await guest.check(`dd if=${victim.path} of=/tmp/block bs=4096 skip=${index} count=1 2>/dev/null`)
  await faults.add([{ sector: sector(sectorOfBlock(block) + 3), operation: 'read' }])
  const lost = await checkFiles(guest, files)
  const read = await guest.run(`cat ${victim.path} > /dev/null`)
  narrator.fact(`reading ${victim.path}: ${read.stderr.trim()}; the other files are fine`)
  narrator.step('writing the block again')
  await guest.check(`dd if=/tmp/block of=${victim.path} bs=4096 seek=${index} count=1 conv=notrunc 2>/dev/null && sync`)
  const healed = await checkFiles(guest, files)
  return [
    {
      act: 'c',
      claim: 'the file on an unreadable sector gives EIO, and no other file does',
      measured: `damaged: ${lost.damaged.join(', ') || 'none'} (${isEio(read) ? 'EIO' : 'no EIO'})`,
      holds: isEio(read) && lost.damaged.length === 1 && lost.damaged[0] === victim.path,
    },
    {
      act: 'c',
      claim: 'writing it again heals it, although the disk stays bad there',
      measured: `${healed.intact} of ${files.length} files intact`,
      holds: healed.damaged.length === 0,
    },
  ]
}

const isEio = ({ status, stderr }: GuestResult): boolean => status !== 0 && stderr.includes('Input/output error')

/** A block of the file that still lies on the main disk: its number on the disk and in the file. */
async function pickBlock(
  stage: Stage,
  guest: Guest,
  file: KnownFile,
  remapped: ReadonlySet<number>,
): Promise<{ block: number; index: number }> {
  for (const index of stage.random.sample(FILE_KIB / 4, FILE_KIB / 4)) {
    const output = await guest.check(`debugfs -R "bmap ${file.path.replace('/mnt', '')} ${index}" /dev/vda 2>/dev/null`)
    const block = Number(output)
    if (!remapped.has(sectorOfBlock(block))) return { block, index }
  }
  throw new Error(`every block of ${file.path} is remapped`)
}

// --- d: the server is killed --------------------------------------------------------------------------------------

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

// --- e: power cut -------------------------------------------------------------------------------------------------

const HEADER_SECTORS = [0, 1024, 2048, 4096, 8192]

export async function actPowerCut(
  stage: Stage,
  narrator: Narrator,
  ensemble: Ensemble,
): Promise<{ claims: Claim[]; ensemble: Ensemble }> {
  narrator.act('Power cut: everything dies at once, and four of five header copies are destroyed')
  const { files } = ensemble
  await ensemble.guest.check('sync')
  const unfinished = writeFile(ensemble.guest, '/mnt/unfinished', FILE_KIB).catch(() => undefined)
  narrator.step('SIGKILL to QEMU and to the server, while the guest writes')
  await ensemble.machine.kill()
  await ensemble.server.killAll()
  await unfinished
  const survivor = stage.random.below(HEADER_SECTORS.length)
  await destroyHeaders(stage, survivor)
  narrator.step(`only header copy ${survivor} is left; starting everything again`)
  const damaged = await verify(stage)
  const server = await stage.startServer()
  const { machine, guest } = await stage.startMachine(remapDisk(server))
  await guest.check(MOUNT)
  const check = await checkFiles(guest, files)
  await guest.check('umount /mnt')
  const fsck = await guest.run('e2fsck -fn /dev/vda')
  await guest.check(MOUNT)
  narrator.fact(`${check.intact} of ${files.length} files that were synced before the cut have their checksums`)
  const claims = [
    {
      act: 'e',
      claim: 'four destroyed header copies are noticed',
      measured: `${damaged.problems.filter((problem) => problem.startsWith('header copy')).length} reported by verify`,
      holds: damaged.problems.filter((problem) => problem.startsWith('header copy')).length === 4,
    },
    {
      act: 'e',
      claim: 'e2fsck is clean after the journal replay',
      measured: `exit code ${fsck.status}`,
      holds: fsck.status === 0,
    },
    {
      act: 'e',
      claim: 'every file synced before the cut has its checksum',
      measured: `${check.intact} of ${files.length} files`,
      holds: check.damaged.length === 0,
    },
  ]
  return { claims, ensemble: { ...ensemble, server, machine, guest } }
}

async function destroyHeaders(stage: Stage, survivor: number): Promise<void> {
  const spare = await open(stage.spare, 'r+')
  for (const [copy, at] of HEADER_SECTORS.entries()) {
    if (copy !== survivor) await spare.write(stage.random.bytes(4096), 0, 4096, at * SECTOR_SIZE)
  }
  await spare.close()
}

// --- the end ------------------------------------------------------------------------------------------------------

export async function actEnd(stage: Stage, narrator: Narrator, ensemble: Ensemble): Promise<Claim[]> {
  narrator.act('The end: an orderly stop')
  narrator.step('stopping the machine and the server')
  await ensemble.guest.check('umount /mnt')
  ensemble.guest.close()
  await ensemble.machine.quit()
  await ensemble.server.stop()
  const { problems } = await verify(stage)
  return [
    {
      act: 'e',
      claim: 'all copies of the metadata are repaired: nbd-remap verify finds nothing wrong',
      measured: problems.length === 0 ? 'intact' : problems.join('; '),
      holds: problems.length === 0,
    },
  ]
}

async function verify(stage: Stage): Promise<{ problems: string[] }> {
  const args = [stage.program, 'verify', '--spare', stage.spare, '--json']
  const run = promisify(execFile)(process.execPath, args)
  // It exits with 1 when it finds something, and says what on standard output all the same.
  const { stdout } = await run.catch((error: unknown) => error as { stdout: string })
  return JSON.parse(stdout) as { problems: string[] }
}
