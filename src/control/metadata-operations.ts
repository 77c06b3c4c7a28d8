/** The data plane's side of the commands that check the metadata. */
import { QmpReplyError } from '../qmp/error.js'
import { MetadataCheckError, type MetadataCheck } from '../remap/metadata-check.js'
import type { MetadataAnswer } from './metadata-commands.js'

export interface MetadataSubject {
  readonly metadata: MetadataCheck
}

export const metadataOperations = ({ metadata }: MetadataSubject): [string, () => Promise<MetadataAnswer>][] => [
  ['metadata-verify', () => check(metadata, false)],
  ['metadata-repair', () => check(metadata, true)],
]

async function check(metadata: MetadataCheck, repair: boolean): Promise<MetadataAnswer> {
  try {
    const { slotPages, findings, ...report } = await metadata.run({ repair })
    return { ...report, 'slot-pages': slotPages, findings: [...findings] }
  } catch (error) {
    if (error instanceof MetadataCheckError) throw new QmpReplyError(error.message)
    throw error
  }
}
