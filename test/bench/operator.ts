/** What an operator waits for at the command line: a long list of remaps, and many messages one after another. */
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { packageRoot } from '../../src/cli/package-version.js'
import { MiB, SECTOR_SIZE } from '../../src/util/units.js'
import { runOk } from '../support/tools.js'
import { blankImage, writeImage } from './images.js'
import type { Context, Measured } from './job.js'
import { cpuSeconds } from './proc.js'
import { startNbdRemap } from './servers.js'

const LIST_SECTORS = 100_000
/** Sectors of main for each of the list. */
const SPREAD = 4
const MESSAGES = 200
const MESSAGE_SPREAD = 100
const PROGRAM = path.join(packageRoot(), 'dist/src/cli/bin.cjs')

interface Started {
  readonly folder: string
  readonly pid: number
}

/** A server that remaps single sectors, as dm-remap does, in a folder in which it is found by the name `remap`. */
async function startServer({ directory, scope }: Context, sectors: number): Promise<Started> {
  const size = Math.ceil((sectors * SECTOR_SIZE) / MiB) * MiB
  const main = await writeImage(path.join(directory, 'main.img'), size)
  const spare = await blankImage(path.join(directory, 'spare.img'), size + 64 * MiB)
  const folder = path.join(directory, 'run')
  await mkdir(folder, { mode: 0o700 })
  const { pid } = scope.use(await startNbdRemap(folder, main, spare, ['--block-size', String(SECTOR_SIZE)]))
  return { folder, pid }
}

/** No two are neighbours, and the gaps between them differ. */
const listed = (): string =>
  Array.from({ length: LIST_SECTORS }, (_, n) => `${n * SPREAD + ((n * 7) % 3)} auto 1\n`).join('')

export async function measureList(context: Context): Promise<Measured> {
  const { folder, pid } = await startServer(context, LIST_SECTORS * SPREAD)
  const list = path.join(folder, 'list')
  await writeFile(list, listed())
  context.step('remapping')
  const cpuBefore = cpuSeconds(pid)
  const begin = performance.now()
  const said = await runOk(
    process.execPath,
    PROGRAM,
    'add',
    '--from',
    list,
    '--control',
    path.join(folder, 'remap.qmp'),
  )
  return figure(begin, said, cpuSeconds(pid) - cpuBefore)
}

export async function measureMessages(context: Context): Promise<Measured> {
  const { folder, pid } = await startServer(context, MESSAGES * MESSAGE_SPREAD)
  const send = (message: string): Promise<string> =>
    runOk(
      'env',
      `NBD_REMAP_RUNTIME_DIR=${folder}`,
      process.execPath,
      PROGRAM,
      'dmsetup',
      'message',
      'remap',
      '0',
      message,
    )
  context.step('sending messages')
  const cpuBefore = cpuSeconds(pid)
  const begin = performance.now()
  let said = ''
  for (let n = 0; n < MESSAGES; n++) said = await send(`add_remap ${n * MESSAGE_SPREAD} ${n * MESSAGE_SPREAD} 1`)
  return figure(begin, said, cpuSeconds(pid) - cpuBefore)
}

/** @param said by the program at last */
const figure = (beginMs: number, said: string, cpuS: number): Measured => ({
  value: (performance.now() - beginMs) / 1000,
  controlLatenciesMs: [],
  note: `${said.trim()}; the server took ${cpuS.toFixed(1)} s of processor time`,
})
