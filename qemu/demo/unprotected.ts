/** Act a: the guest on the failing disk itself. */
import { checkFiles, kernelErrors, writeFile, type KnownFile } from './files.js'
import { BAD_BLOCKS, FILE_KIB, MKFS, MOUNT } from './ensemble.js'
import type { Claim, Narrator } from './narrator.js'
import type { Stage } from './stage.js'

const BARE_FILES = 16

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
