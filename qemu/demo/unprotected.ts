/** Act a: the guest on the failing disk itself. */
import { checkFiles, kernelErrors, writeFileCarefully, type CarefulWrite } from './files.js'
import { BAD_BLOCKS, FILE_KIB, MKFS, MOUNT, PROMISES } from './ensemble.js'
import type { Claim, Narrator } from './narrator.js'
import type { Stage } from './stage.js'

const BARE_FILES = 16

export async function actUnprotected(stage: Stage, narrator: Narrator): Promise<Claim[]> {
  narrator.act('a. Without nbd-remap: the guest sits on the failing disk itself')
  narrator.step('booting the guest and making an ext4 file system')
  const { machine, guest } = await stage.startMachine(stage.bareDisk())
  await guest.check(`${MKFS} && ${MOUNT}`)
  await stage
    .faults('bare')
    .set(stage.drawBlocks(BAD_BLOCKS).map((at) => ({ sector: at, operation: 'write' as const })))
  stage.timeline.mark('fault', `${BAD_BLOCKS} blocks cannot be written`)
  narrator.step(`${BAD_BLOCKS} blocks of the disk cannot be written any more; writing ${BARE_FILES} files`)
  const writes: CarefulWrite[] = []
  for (let n = 0; n < BARE_FILES; n++) writes.push(await writeFileCarefully(guest, `file-${n}`, FILE_KIB))
  const files = writes.map(({ file }) => file)
  const { damaged } = await checkFiles(guest, files)
  const errors = await kernelErrors(guest)
  for (const line of pickTelling(errors)) narrator.fact(`guest's kernel: ${line}`)
  const silent = writes.filter(({ file, confirmed }) => confirmed && damaged.includes(file.path)).length
  narrator.fact(
    `${damaged.length} of ${files.length} files are damaged or gone, ${silent} of them although cp and sync reported success`,
  )
  stage.timeline.check(PROMISES.noErrors, errors.length === 0, `${errors.length} errors in its kernel log`)
  const intact = files.length - damaged.length
  stage.timeline.check(PROMISES.checksums, damaged.length === 0, `${intact} of ${files.length} files`)
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

/** The first line of each kind, in the order in which they came; there are hundreds. */
function pickTelling(errors: readonly string[]): string[] {
  const kinds = [
    /I\/O error, dev/,
    /ext4_end_bio/,
    /lost async page write/,
    /Aborting journal/,
    /Detected aborted journal/,
    /Remounting filesystem read-only/,
  ]
  const first = new Set(kinds.flatMap((kind) => errors.find((line) => kind.test(line)) ?? []))
  return errors.filter((line) => first.has(line))
}
