/** docs/HTTP.md against the program. */
import t from 'tap'
import { HTTP_LIMITS } from '../../src/control/http-server.js'
import { metricsText } from '../../src/control/metrics.js'
import { newErrorCounts } from '../../src/remap/error-counts.js'
import { newStatistics } from '../../src/remap/statistics.js'
import { Document, namesIn } from '../support/documents.js'
import { parsePrometheus, type Family } from '../support/prometheus.js'

const document = new Document('docs/HTTP.md')

function metrics(): Family[] {
  const statistics = newStatistics()
  const errors = newErrorCounts(1, 4096)
  errors.count(0, 'readErrors')
  const spare = { name: 's', uuid: 'u', location: '/s', size: 1, state: 'active' as const }
  const blocks = { 'total-blocks': 1, 'free-blocks': 1, 'remapped-blocks': 0, 'retired-blocks': 0, 'lost-blocks': 0 }
  const text = metricsText({
    facts: {
      version: '1',
      exportName: 'disk',
      uri: '',
      startedAt: new Date(),
      readOnly: false,
      blockSize: 4096,
      size: 1,
      main: { name: 'main', location: '/main', size: 1 },
      statistics: statistics.memory,
      errors: errors.memory,
    },
    statistics,
    spares: [{ ...spare, ...blocks, 'blocks-to-move': 0, 'blocks-moved': 0 }],
    clients: [],
    health: {
      score: 100,
      status: 'ok',
      reasons: [],
      daysLeft: undefined,
      trend: 'steady',
      scoreBefore: 100,
      failedBlocksPerDay: 0,
    },
    isStalled: false,
    events: new Map([['IO_ERROR', 1]]),
    controlClients: 0,
  })
  return [...parsePrometheus(text).values()]
}

void t.test('the metrics are those of the program, with their types and labels', (t) => {
  const rows = document.table('Prometheus', 'metric').rows.map(([metric, type, labels = '']) => ({
    metric,
    type,
    labels: labels.split(', ').filter((label) => label !== ''),
  }))
  t.same(
    rows.map(({ labels, ...row }) => ({ ...row, labels: labels.map((label) => namesIn(label)[0] ?? label) })),
    metrics().map(({ name, type, samples }) => ({
      metric: name,
      type,
      labels: Object.keys(samples[0]?.labels ?? {}).filter((label) => label !== 'le'),
    })),
  )
  t.end()
})

void t.test('the limits are those of the program', (t) => {
  const rows = document.table('Limits', 'limit').rows.map(([name = '', value]) => [name, Number(value)] as const)
  t.same(Object.fromEntries(rows), HTTP_LIMITS)
  t.end()
})
