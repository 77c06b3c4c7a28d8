/** Act b: the same kind of disk behind nbd-remap, while more and more of it goes bad. */
import { sector } from '../../src/util/units.js'
import { checkFiles, kernelErrors, writeFiles, type KnownFile } from './files.js'
import {
  BAD_BLOCKS,
  FILE_KIB,
  FILES,
  MKFS,
  MOUNT,
  PROMISES,
  remapDisk,
  remappedSectors,
  type Ensemble,
} from './ensemble.js'
import type { Claim, Narrator } from './narrator.js'
import type { Stage } from './stage.js'

const WAVES = 8

export async function actProtected(stage: Stage, narrator: Narrator): Promise<{ claims: Claim[]; ensemble: Ensemble }> {
  narrator.act('b. With nbd-remap: the same kind of disk, the same kind of faults')
  narrator.step('starting the server and booting the guest')
  const faults = stage.faults('main')
  const server = await stage.startServer(['--create'])
  const { machine, guest } = await stage.startMachine(remapDisk(server))
  narrator.step('making an ext4 file system while the first blocks go bad')
  const bad = stage.drawBlocks(BAD_BLOCKS).map((at) => ({ sector: at, operation: 'write' as const }))
  const wave = (n: number): typeof bad => bad.slice(0, Math.ceil(((n + 1) * bad.length) / WAVES))
  await faults.set(wave(0))
  stage.timeline.mark('fault', `${wave(0).length} blocks cannot be written`)
  await guest.check(`${MKFS} && ${MOUNT}`)
  const files: KnownFile[] = []
  for (let n = 0; n < WAVES; n++) {
    const names = Array.from({ length: FILES / WAVES }, (_, i) => `file-${files.length + i}`)
    if (n > 0) stage.timeline.mark('fault', `${wave(n).length} blocks cannot be written`)
    narrator.step(`writing ${files.length + names.length} of ${FILES} files; ${wave(n).length} blocks are bad`)
    const [written] = await Promise.all([writeFiles(guest, names, FILE_KIB), faults.set(wave(n))])
    files.push(...written)
  }
  await guest.check('sync')
  narrator.step('making every remapped block unreadable, too, and reading all files from the disk')
  const remapped = await remappedSectors(server)
  await faults.set([...bad, ...remapped.map((at) => ({ sector: sector(at), operation: 'read' as const }))])
  stage.timeline.mark('fault', `${remapped.length} blocks cannot be read either`)
  stage.timeline.measurements.push({ name: 'blocks remapped', value: remapped.length, unit: '' })
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
      claim: PROMISES.noErrors,
      measured: `${errors.length} errors in its kernel log`,
      holds: errors.length === 0,
    },
    {
      act: 'b',
      claim: PROMISES.checksums,
      measured: `${intact} of ${files} files (${(files * FILE_KIB) / 1024} MiB)`,
      holds: intact === files,
    },
    { act: 'b', claim: 'e2fsck finds nothing wrong', measured: `exit code ${fsck}`, holds: fsck === 0 },
  ]
}
