/** Two servers never write the same disks (promise P5): the second one is refused, and the first one is not disturbed. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { fails, MANY_PROCESSES_TIMEOUT_MS, newMain, newPair, newSpare, pattern, Serve } from '../support/cli.js'
import { REFUSED, serve } from '../support/refusals.js'
import { imageFile, startQemuNbd } from '../support/upstream-servers.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

const IN_USE = /is in use by another process: two servers on one disk would destroy it, so stop the other one first/

/** Writes and reads while `others` are at work. */
async function undisturbed(t: Test, server: Serve, others: () => Promise<void>): Promise<void> {
  const client = await server.connect()
  const state = { done: false, rounds: 0 }
  const work = (async () => {
    while (!state.done) {
      const content = pattern(4096, ++state.rounds)
      await client.write(8192, [content])
      await client.flush()
      const found = Buffer.alloc(content.length)
      await client.read(8192, found)
      if (!found.equals(content)) throw new Error(`round ${state.rounds} read something else`)
    }
  })()
  await others()
  state.done = true
  await work
  t.ok(state.rounds > 1, `${state.rounds} rounds of the healthy client`)
  await client.disconnect()
  t.same(await server.end(), { code: 0, signal: null })
}

for (const args of [[], ['--supervise']]) {
  void t.test(`whoever comes second is refused: ${args.join('') || 'alone'}`, async (t) => {
    const pair = newPair(t)
    const other = {
      ...pair,
      main: newMain(pair.folder, 'other.img', 2),
      spare: newSpare(pair.folder, 'other-spare.img'),
    }
    const server = await Serve.start(t, pair, ['--create', ...args])
    await undisturbed(t, server, async () => {
      const { main, spare } = pair
      const files = [other.main, other.spare]
      await fails(t, REFUSED, IN_USE, serve(pair))
      await fails(t, REFUSED, IN_USE, serve(pair, '--supervise'))
      await fails(t, REFUSED, IN_USE, serve(pair, '--read-only'))
      await fails(t, REFUSED, /main\.img is in use/, serve({ ...pair, spare: other.spare }, '--create'), files)
      await fails(t, REFUSED, /spare\.img is in use/, serve({ ...pair, main: other.main }, '--create'), files)
      await fails(t, REFUSED, IN_USE, ['verify', '--spare', spare])
      await fails(t, REFUSED, IN_USE, ['format', '--main', main, '--spare', spare, '--force'])
      await fails(t, REFUSED, IN_USE, ['format', '--main', main, '--spare', other.spare], files)
    })
  })
}

void t.test('the same main over NBD, however its URI is spelled', async (t) => {
  const upstream = await startQemuNbd(t, await imageFile(t, 4 * 1024 * 1024, 7))
  const pair = { ...newPair(t), main: upstream.uri }
  const spare = newSpare(pair.folder, 'other-spare.img')
  const server = await Serve.start(t, pair)
  await undisturbed(t, server, async () => {
    const spelled = `NBD+UNIX:///main?socket=${encodeURIComponent(upstream.socket)}`
    for (const main of [upstream.uri, spelled]) {
      await fails(t, REFUSED, IN_USE, serve({ ...pair, main, spare }, '--create'), [spare])
      await fails(t, REFUSED, IN_USE, serve({ ...pair, main, spare }, '--create', '--supervise'), [spare])
      await fails(t, REFUSED, IN_USE, ['format', '--main', main, '--spare', spare], [spare])
    }
  })
})

void t.test('a spare over NBD that is served is not verified', async (t) => {
  const upstream = await startQemuNbd(t, await imageFile(t, 10 * 1024 * 1024))
  const pair = { ...newPair(t), spare: upstream.uri }
  const server = await Serve.start(t, pair)
  await fails(t, REFUSED, IN_USE, ['verify', '--spare', upstream.uri])
  await server.end()
  const reader = await Serve.start(t, pair, ['--read-only'])
  await fails(t, REFUSED, IN_USE, serve(pair))
  t.equal((await Serve.start(t, pair, ['--read-only'], 'b')).running, true)
  await reader.end()
})

void t.test('any number may read, and nobody writes beside them', async (t) => {
  const pair = newPair(t)
  await (await Serve.start(t, pair)).end()
  const readers = [await Serve.start(t, pair, ['--read-only'], 'a'), await Serve.start(t, pair, ['--read-only'], 'b')]
  const files = [pair.main, pair.spare]
  await fails(t, REFUSED, IN_USE, serve(pair), files)
  await fails(t, REFUSED, IN_USE, ['format', '--main', pair.main, '--spare', pair.spare, '--force'], files)
  for (const reader of readers) {
    t.same(await reader.read(4096, 4096), pattern(8192).subarray(4096))
    t.same(await reader.end(), { code: 0, signal: null })
  }
  const writer = await Serve.start(t, pair, [])
  t.same(await writer.end(), { code: 0, signal: null })
})

void t.test('a socket of the first server is not taken by the second', async (t) => {
  const pair = newPair(t)
  const server = await Serve.start(t, pair)
  const args = ['serve', '--main', pair.main, '--spare', pair.spare]
  const other = join(pair.folder, 'other')
  await undisturbed(t, server, async () => {
    await fails(t, 1, /in use by a running server; give another place with --socket/, [
      ...args,
      '--socket',
      server.socketPath,
    ])
    const control = ['--socket', other, '--control', server.controlPath]
    await fails(t, 1, /in use by a running server; give another place with --control/, [...args, ...control])
    t.match(await server.ask('query-status'), { pid: server.pid })
  })
})
