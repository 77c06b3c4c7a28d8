/** Two servers on one pair of disks behind NBD, where no lock keeps them apart (promise P5). */
import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { QmpClient } from '../../src/qmp/client.js'
import { MiB } from '../../src/util/units.js'
import { MANY_PROCESSES_TIMEOUT_MS, newFolder, saidOf, Serve, type PairFiles } from '../support/cli.js'
import { imageFile, startNbdkit, type UpstreamServer } from '../support/upstream-servers.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

/** One pair of disks, which each of two hosts reaches under URIs of its own: so they take different locks. */
async function disksOfTwoHosts(t: Test): Promise<{ here: PairFiles; there: PairFiles }> {
  const folder = newFolder(t)
  const main = await startNbdkit(t, 'file', await imageFile(t, 4 * MiB, 1))
  const spare = await startNbdkit(t, 'file', await imageFile(t, 10 * MiB))
  const elsewhere = ({ socket }: UpstreamServer, name: string): string => {
    const path = join(folder, name)
    symlinkSync(socket, path)
    return `nbd+unix:///?socket=${path}`
  }
  return {
    here: { folder, main: main.uri, spare: spare.uri },
    there: { folder, main: elsewhere(main, 'm'), spare: elsewhere(spare, 's') },
  }
}

const REFUSED = 3
const remap = (server: Serve, sector: number): Promise<unknown> =>
  server.ask('remap-add', { 'main-sector': sector, sectors: 8 })

for (const supervised of [false, true]) {
  void t.test(
    `a server ${supervised ? 'with --supervise ' : ''}ends when another one takes its pair over`,
    async (t) => {
      const { here, there } = await disksOfTwoHosts(t)
      const old = await Serve.start(t, here, ['--create', ...(supervised ? ['--supervise'] : [])])
      await remap(old, 800)
      const client = await QmpClient.connect(old.controlPath)
      const events = client.events('OWNERSHIP_LOST')
      const next = await Serve.start(t, there, ['--accept-main'], 'b')
      // With metadata to write it notices at once, without in a few seconds.
      if (!supervised) await t.rejects(remap(old, 1600))
      t.match(await events.next({ timeoutMs: 60_000 }), {
        event: 'OWNERSHIP_LOST',
        data: { spare: here.spare, reason: /taken over \(owner epoch 2, and this server has 1\)/ },
      })
      t.same(await old.exited, { code: REFUSED, signal: null })
      await client.close()
      const sentence = /^nbd-remap: spare \S+ belongs to another server now: it was taken over .*has stopped serving/
      t.match(saidOf(old.stderr), [sentence], 'it says why, once')
      await remap(next, 2400)
      t.match(await next.ask('query-remaps'), { remaps: [{ 'main-sector': 800 }, { 'main-sector': 2400 }], total: 2 })
      t.same(await next.end(), { code: 0, signal: null })
    },
  )
}
