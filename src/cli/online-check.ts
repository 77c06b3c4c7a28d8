/** `verify` and `repair` of the metadata of a running server. */
import type { MetadataAnswer } from '../control/metadata-commands.js'
import { UsageError } from '../util/errors.js'
import { runLong, type ShownProgress } from './batch.js'
import { EXIT } from './exit.js'

const PROGRESS: ShownProgress = {
  event: 'METADATA_PROGRESS',
  line: ({ data }) => {
    const { spare, 'done-pages': done, 'total-pages': total } = data as Record<string, string | number>
    return `${String(spare)}: ${String(done)} of ${String(total)} slot pages\n`
  },
}

/** @throws Error with a sentence for people */
export async function checkOnline(operation: 'verify' | 'repair', control: string, json = false): Promise<void> {
  const answer = await runLong<MetadataAnswer>(control, `metadata-${operation}`, {}, PROGRESS)
  process.stdout.write(json ? `${JSON.stringify(answer, null, 2)}\n` : describe(answer))
  process.exitCode = answer.damaged === answer.repaired ? EXIT.done : EXIT.failed
}

function describe(answer: MetadataAnswer): string {
  const { headers, damaged, repaired, findings } = answer
  const found = findings.map(({ spare, structure, number, reason, repaired: isRepaired }) => {
    const what = structure === 'header' ? 'header' : `slot page ${number}`
    return `${isRepaired ? 'repaired:' : 'WRONG:   '} ${what} of ${spare}: ${reason}`
  })
  const rest = damaged === repaired ? [] : [`result:   ${damaged - repaired} problem(s)`]
  const lines = [
    `checked:  ${headers} header(s) in 5 copies, ${answer['slot-pages']} slot pages in 2 copies`,
    ...found,
    ...(damaged === repaired ? ['result:   intact'] : rest),
  ]
  return `${lines.join('\n')}\n`
}

/** Of a spare that is not being served, or of a server: one of the two. @throws UsageError */
export function oneOf<Offline>(
  { spare, control }: { readonly spare?: string; readonly control?: string },
  offline: (spare: string) => Offline,
  online: (control: string) => Offline,
): Offline {
  if (spare !== undefined && control === undefined) return offline(spare)
  if (control !== undefined && spare === undefined) return online(control)
  throw new UsageError('give either --spare, of a spare that is not being served, or --control, of a server')
}
