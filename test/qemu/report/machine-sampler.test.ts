/** A machine's sampler draws what QEMU counts, of all disks with a device, until QEMU is gone. */
import t from 'tap'
import { MachineSampler } from '../../../qemu/report/machine-sampler.js'
import { QmpClient } from '../../../src/qmp/index.js'
import { MiB } from '../../../src/util/units.js'
import { GREETING, scriptedServer } from '../../support/qmp-server.js'

/** From one look to the next, 1 MiB more is written and 2 MiB are read, in two requests of 3 ms each. */
const disk = (look: number, qdev?: string): object => ({
  ...(qdev === undefined ? {} : { qdev }),
  stats: {
    rd_bytes: 2 * look * MiB,
    wr_bytes: look * MiB,
    rd_operations: look,
    wr_operations: look,
    flush_operations: 0,
    rd_total_time_ns: 3e6 * look,
    wr_total_time_ns: 3e6 * look,
    flush_total_time_ns: 0,
  },
})

void t.test('rates, latency, and a gap when QEMU goes', async (t) => {
  const clock = { ms: 0 }
  let looks = 0
  const server = await scriptedServer(
    t,
    (socket) => socket.write(GREETING),
    (socket, { execute, id }) => {
      if (execute === 'qmp_capabilities') {
        socket.write(`{"return": {}, "id": ${id}}\r\n`)
        return
      }
      clock.ms += 1000
      looks++
      const disks = [disk(looks, '/machine/vda'), disk(looks, '/machine/vdb'), disk(looks)]
      if (looks === 4) socket.destroy()
      else socket.write(`{"return": ${JSON.stringify(disks)}, "id": ${id}}\r\n`)
    },
  )
  const client = await QmpClient.connect(server.path)
  const sampler = MachineSampler.start(client, { now: () => clock.ms, intervalMs: 1 })
  await client.closed
  await sampler.stop()
  t.same(
    sampler.series.map(({ name, unit, points }) => [name, unit, points]),
    [
      [
        'guest, reads',
        'MiB/s',
        [
          [2000, 4],
          [3000, 4],
          [4000, null],
        ],
      ],
      [
        'guest, writes',
        'MiB/s',
        [
          [2000, 2],
          [3000, 2],
          [4000, null],
        ],
      ],
      [
        'guest, mean',
        'ms',
        [
          [2000, 3],
          [3000, 3],
          [4000, null],
        ],
      ],
    ],
  )
})
