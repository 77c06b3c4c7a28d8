/** Act e: everything dies at once, four header copies are destroyed, and everything starts again. And the orderly end. */
import { open } from 'node:fs/promises'
import { SECTOR_SIZE } from '../../src/util/units.js'
import { FILE_KIB, MOUNT, remapDisk, verify, type Ensemble } from './ensemble.js'
import { checkFiles, writeFiles } from './files.js'
import type { Claim, Narrator } from './narrator.js'
import type { Stage } from './stage.js'

const HEADER_SECTORS = [0, 1024, 2048, 4096, 8192]

export async function actPowerCut(
  stage: Stage,
  narrator: Narrator,
  ensemble: Ensemble,
): Promise<{ claims: Claim[]; ensemble: Ensemble }> {
  narrator.act('e. Power cut: everything dies at once, and four of five header copies are destroyed')
  const { files } = ensemble
  await ensemble.guest.check('sync')
  const unfinished = writeFiles(ensemble.guest, ['unfinished'], FILE_KIB).catch(() => undefined)
  narrator.step('SIGKILL to QEMU and to the server, while the guest writes')
  stage.timeline.mark('kill', 'SIGKILL to QEMU and to the server')
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
