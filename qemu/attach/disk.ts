/**
 * A disk of a running machine, as its monitor shows it, and the change of what is behind it. Devices are found by what people
 * call them: the id of the device, the name of the -drive or of the block node, or the path in QEMU's object tree.
 */
import type { QmpClient } from '../../src/qmp/index.js'
import { AttachRefusedError } from './errors.js'
import { sourceOf, type Source } from './source.js'

export interface MachineDisk {
  /** What it was found by, for messages. */
  readonly label: string
  /** Of the device, whose property `drive` is changed. */
  readonly qomPath: string
  readonly nodeName: string
  /** Bytes. */
  readonly size: number
  readonly readOnly: boolean
  readonly detectZeroes: string
  /** `failed` or `nospace` once a request failed; it stays so when the machine goes on. */
  readonly ioStatus: string | undefined
  readonly source: Source
}

/** The parts of an entry of `query-block` that are looked at. */
export interface BlockInfo {
  readonly device: string
  readonly qdev?: string
  readonly 'io-status'?: string
  readonly inserted?: {
    readonly 'node-name': string
    readonly drv: string
    readonly file: string
    readonly ro: boolean
    readonly detect_zeroes: string
    readonly image: { readonly 'virtual-size': number }
  }
}

const BACKEND = '/virtio-backend'

/** `/machine/peripheral/vd0/virtio-backend` belongs to `/machine/peripheral/vd0`; others are told by their id. */
const qomPathOf = (qdev: string): string =>
  qdev.startsWith('/') ? qdev.replace(new RegExp(`${BACKEND}$`), '') : `/machine/peripheral/${qdev}`

const idOf = (qdev: string): string => qomPathOf(qdev).replace(/^\/machine\/peripheral\//, '')

/** Names by which a disk is found, the best one first. */
function namesOf({ device, qdev = '', inserted }: BlockInfo): string[] {
  const names = [qdev === '' ? '' : idOf(qdev), device, inserted?.['node-name'] ?? '', qdev]
  return names.filter((name) => name !== '')
}

/** The disks that have a medium. Pure. */
export function disksOf(blocks: readonly BlockInfo[]): MachineDisk[] {
  return blocks.flatMap((block) => {
    const { inserted, qdev } = block
    if (inserted === undefined || qdev === undefined) return []
    const names = namesOf(block)
    // A path in the object tree tells people nothing where there is a name of their own.
    const label = names.find((name) => !name.startsWith('/') && !name.startsWith('#')) ?? qdev
    return {
      label,
      qomPath: qomPathOf(qdev),
      nodeName: inserted['node-name'],
      size: inserted.image['virtual-size'],
      readOnly: inserted.ro,
      detectZeroes: inserted.detect_zeroes,
      ioStatus: block['io-status'],
      source: sourceOf(inserted.drv, inserted.file),
    }
  })
}

/** @throws AttachRefusedError with the names of those that there are */
export function chooseDisk(blocks: readonly BlockInfo[], name: string): MachineDisk {
  const [disk] = disksOf(blocks.filter((block) => namesOf(block).includes(name)))
  if (disk !== undefined) return { ...disk, label: name }
  const known = disksOf(blocks).map(({ label }) => label)
  throw new AttachRefusedError(
    `the machine has no disk '${name}': ${known.length === 0 ? 'it has none at all' : `it has ${known.join(', ')}`}`,
  )
}

export const queryBlock = async (qmp: Pick<QmpClient, 'execute'>): Promise<readonly BlockInfo[]> =>
  (await qmp.execute('query-block')) as readonly BlockInfo[]

/** @throws AttachRefusedError, QmpError */
export const findDisk = async (qmp: Pick<QmpClient, 'execute'>, name: string): Promise<MachineDisk> =>
  chooseDisk(await queryBlock(qmp), name)

/** What the device uses from now on. QEMU finishes what is in flight first. @throws QmpError; then nothing has changed */
export async function setDrive(
  qmp: Pick<QmpClient, 'execute'>,
  { qomPath }: Pick<MachineDisk, 'qomPath'>,
  nodeName: string,
): Promise<void> {
  await qmp.execute('qom-set', { path: qomPath, property: 'drive', value: nodeName })
}

/** Node names that QEMU made up belong to their -drive, and go when it lets go of them. */
export const isMadeUp = (nodeName: string): boolean => nodeName.startsWith('#')

/** The nodes right below a node. Best effort: QEMU calls the command unstable. */
export async function childrenOf(qmp: Pick<QmpClient, 'execute'>, nodeName: string): Promise<string[]> {
  const { nodes, edges } = (await qmp.execute('x-debug-query-block-graph')) as {
    readonly nodes: readonly { readonly id: number; readonly name: string }[]
    readonly edges: readonly { readonly parent: number; readonly child: number }[]
  }
  const names = new Map(nodes.map(({ id, name }) => [id, name]))
  return edges.flatMap(({ parent, child }) => (names.get(parent) === nodeName ? (names.get(child) ?? []) : []))
}
