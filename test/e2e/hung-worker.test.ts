/** `serve --supervise` with a worker that lives and does not answer: it is killed when that helps, and only then. */
import t from 'tap'
import { newPair, pattern, Serve } from '../support/cli.js'

const pidOf = async (server: Serve): Promise<number> => (await server.ask<{ pid: number }>('query-status')).pid

void t.test('a worker that is stopped is killed, and the next one has what was acknowledged', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', '--supervise', '--hang-timeout', '0.3'])
  const client = await server.connect()
  const content = pattern(4096, 5)
  await client.write(0, [content])
  const worker = await pidOf(server)
  process.kill(worker, 'SIGSTOP')
  await client.lost
  t.ok((await server.read(0, 4096)).equals(content))
  t.not(await pidOf(server), worker)
  await server.says(new RegExp(`worker ${worker} has not answered for [\\d.]+ s: it is stopped .*; it is killed`))
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test('a stop ends a worker that hangs, and says that it was not a clean one', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', '--supervise', '--hang-timeout', '0.3'])
  process.kill(await pidOf(server), 'SIGSTOP')
  t.same(await server.end(), { code: 1, signal: null })
  t.match(server.stderr, /^nbd-remap: the worker died before it could stop in good order/m)
})
