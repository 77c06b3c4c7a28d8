/** docs/HEALTH.md against the formula. */
import t from 'tap'
import {
  CRITICAL_BELOW,
  healthOf,
  HEALTH_FACTORS,
  WARNING_BELOW,
  type HealthReadings,
} from '../../src/control/health.js'
import { Document } from '../support/documents.js'

const document = new Document('docs/HEALTH.md')
/** As bad as it can be, in each way. */
const WORST: Readonly<Record<(typeof HEALTH_FACTORS)[number], Partial<HealthReadings>>> = {
  stalled: { isStalled: true },
  'failed-requests': { failedRequests: 10 },
  retries: { retries: 1e6 },
  'weak-blocks': { weakBlocks: 1e6 },
  'remap-growth': { failedBlocks: 1e6 },
  'lost-blocks': { lostBlocks: 1e6 },
  'spare-used': { freeBlocks: 0 },
  exhaustion: { failedBlocksPerDay: 1e9 },
}
const WELL: HealthReadings = {
  requests: 10,
  failedRequests: 0,
  retries: 0,
  weakBlocks: 0,
  failedBlocks: 0,
  failedBlocksPerDay: 0,
  freeBlocks: 100,
  spareBlocks: 100,
  lostBlocks: 0,
  isStalled: false,
}

void t.test('the factors and their most points are those of the formula', (t) => {
  const rows = document.table('The score', 'factor').rows.map(([factor, , most]) => [factor, Number(most)])
  t.same(
    rows,
    HEALTH_FACTORS.map((factor) => [factor, 100 - healthOf({ ...WELL, ...WORST[factor] }).score]),
  )
  t.match(document.text, `Below ${WARNING_BELOW} the status is \`warning\`, below ${CRITICAL_BELOW} \`critical\``)
  t.end()
})
