import t from 'tap'
import { Stall } from '../../src/server/stall.js'
import { MiB } from '../../src/util/units.js'
import { until } from '../support/nbd-server.js'

void t.test('it takes too long after the time-out and what the bytes may take', async (t) => {
  const stall = new Stall({ stallTimeoutMs: 5, bytesPerMsMin: MiB })
  t.notOk(stall.isTooLong, 'there is nothing to do yet')
  const begun = performance.now()
  stall.begin(20 * MiB)
  await until(() => stall.isTooLong)
  const took = performance.now() - begun
  t.ok(took >= 25, `${took} ms`)
  stall.end()
  t.notOk(stall.isTooLong, 'it is done')
})

void t.test('who has much to move has time for it', (t) => {
  const stall = new Stall({ stallTimeoutMs: 0, bytesPerMsMin: 1 })
  stall.begin(MiB)
  t.notOk(stall.isTooLong)
  t.ok(stall.isRunning)
  t.end()
})
