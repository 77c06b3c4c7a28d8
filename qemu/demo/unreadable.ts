/** Act c: a sector that cannot be read any more, and is written again. */
import { sector } from '../../src/util/units.js'
import type { Guest, GuestResult } from '../guest.js'
import { FILE_KIB, remappedSectors, type Ensemble } from './ensemble.js'
import { checkFiles, type KnownFile } from './files.js'
import type { Claim, Narrator } from './narrator.js'
import { sectorOfBlock, type Stage } from './stage.js'

export async function actUnreadable(stage: Stage, narrator: Narrator, ensemble: Ensemble): Promise<Claim[]> {
  const { guest, faults, files, server } = ensemble
  narrator.act('c. An unreadable sector, told honestly')
  const remapped = new Set(await remappedSectors(server))
  const victim = stage.random.pick(files)
  const { block, index } = await pickBlock(stage, guest, victim, remapped)
  narrator.step(`sector ${sectorOfBlock(block) + 3}, in the middle of ${victim.path}, cannot be read any more`)
  await guest.check(`dd if=${victim.path} of=/tmp/block bs=4096 skip=${index} count=1 2>/dev/null`)
  await faults.add([{ sector: sector(sectorOfBlock(block) + 3), operation: 'read' }])
  stage.timeline.mark('fault', `sector ${sectorOfBlock(block) + 3} cannot be read`)
  const lost = await checkFiles(guest, files)
  const read = await guest.run(`cat ${victim.path} > /dev/null`)
  narrator.fact(`reading ${victim.path}: ${read.stderr.trim()}; the other files are fine`)
  narrator.step('writing the block again')
  await guest.check(`dd if=/tmp/block of=${victim.path} bs=4096 seek=${index} count=1 conv=notrunc 2>/dev/null && sync`)
  const healed = await checkFiles(guest, [victim])
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
      measured: healed.damaged.length === 0 ? 'its checksum is right again' : 'it is still damaged',
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
