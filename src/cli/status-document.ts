/**
 * What `nbd-remap status` knows of a server: the answers to several questions, as one document. docs/status.schema.json
 * describes it, made from the same definitions as the answers.
 */
import type { RemapTable } from '../control/remap-commands.js'
import type { ServerStatus } from '../control/commands.js'
import type { HealthReply } from '../control/health-commands.js'
import type { StatisticsReply } from '../control/statistics-commands.js'
import { withServer } from './ask.js'

type Latency = Omit<StatisticsReply['latency'][number], 'histogram'>
type Statistics = Omit<StatisticsReply, 'latency'> & { readonly latency: readonly Latency[] }

export type StatusDocument = ServerStatus & {
  readonly table: RemapTable
  readonly statistics: Statistics
  readonly health: HealthReply
}

const QUESTIONS = ['query-status', 'query-remap-table', 'query-stats', 'query-health'] as const

/** All of it is answered while a disk hangs. @throws Error with a sentence for people */
export const askStatus = (control: string): Promise<StatusDocument> =>
  withServer(control, async (client) => {
    const [status, table, { latency, ...counters }, health] = (await Promise.all(
      QUESTIONS.map((command) => client.execute(command)),
    )) as [ServerStatus, RemapTable, StatisticsReply, HealthReply]
    return { ...status, table, statistics: { ...counters, latency: latency.map(withoutHistogram) }, health }
  })

/** It is long, and `nbd-remap stats --json` has it. */
const withoutHistogram = (latency: StatisticsReply['latency'][number]): Latency =>
  Object.fromEntries(Object.entries(latency).filter(([name]) => name !== 'histogram')) as unknown as Latency
