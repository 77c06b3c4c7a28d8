/** A sparse disk of 6 GiB and a bit: offsets and lengths that need more than 32 bits, and a size that is no multiple of anything. */
import t, { type Test } from 'tap'
import * as nbd from '../../src/nbd/protocol.js'
import { GiB, KiB } from '../../src/util/units.js'
import { newFolder, newSpare, Serve } from '../support/cli.js'
import { RawClient, type GoOptions } from '../../src/conformance/raw-client.js'
import { runOk } from '../support/tools.js'

const SIZE = 6 * GiB + 777
const FAR = 5 * GiB + 4096
/** More than 2^32, and some of it beyond that offset. */
const RANGE = { offset: GiB / 2, length: 5 * GiB }
const CONTEXTS = [nbd.BASE_ALLOCATION, 'nbd-remap:state']

async function start(t: Test): Promise<Serve> {
  const folder = newFolder(t)
  return Serve.start(t, { folder, main: newSpare(folder, 'main.img', SIZE), spare: newSpare(folder) })
}

async function begin(t: Test, server: Serve, options: GoOptions): Promise<RawClient> {
  const client = await RawClient.connect(server.socketPath)
  t.teardown(() => client.socket.destroy())
  return client.go({ name: '', contexts: CONTEXTS, ...options })
}

const contentAt = async (client: RawClient, offset: number, length: number): Promise<string> =>
  (await client.ask(nbd.NBD_CMD_READ, { offset, length })).data.toString('latin1')

const extentsIn = ({ chunks }: Awaited<ReturnType<RawClient['ask']>>): nbd.BlockStatus[] =>
  chunks.map(({ payload }) => nbd.decodeBlockStatusExt(payload))

void t.test('extended headers: one request for more than 4 GiB', async (t) => {
  const server = await start(t)
  const client = await begin(t, server, { extended: true })
  const write = async (): Promise<void> => {
    t.equal((await client.ask(nbd.NBD_CMD_WRITE, { offset: FAR, length: 4 }, Buffer.from('data'))).error, 0)
    t.equal(await contentAt(client, FAR, 4), 'data')
  }
  await server.ask('remap-add', { 'main-sector': FAR / 512, sectors: 8 })
  for (const flags of [0, nbd.NBD_CMD_FLAG_FAST_ZERO, nbd.NBD_CMD_FLAG_FUA]) {
    await write()
    t.equal((await client.ask(nbd.NBD_CMD_WRITE_ZEROES, { ...RANGE, flags })).error, 0, `WRITE_ZEROES, flags ${flags}`)
    t.equal(await contentAt(client, FAR, 4), '\0\0\0\0', 'reads as zeros, though it is on the spare')
  }
  await write()
  t.equal((await client.ask(nbd.NBD_CMD_TRIM, RANGE)).error, 0, 'TRIM')
  t.equal((await client.ask(nbd.NBD_CMD_CACHE, RANGE)).error, 0, 'CACHE')

  const [, state] = extentsIn(await client.ask(nbd.NBD_CMD_BLOCK_STATUS, { offset: 0, length: SIZE }))
  const expected = [
    { length: FAR, flags: 0 },
    { length: 4096, flags: 1 },
    { length: SIZE - FAR - 4096, flags: 0 },
  ]
  t.same(state?.extents, expected, 'BLOCK_STATUS has extents longer than 4 GiB')
  const payload = nbd.encodeBlockStatusPayload({ length: RANGE.length, contextIds: [1] })
  const asked = await client.ask(nbd.NBD_CMD_BLOCK_STATUS, { offset: RANGE.offset, length: payload.length }, payload)
  const [allocation, ...others] = extentsIn(asked)
  t.same(others, [], 'with a payload, only the context in it')
  t.equal(allocation?.extents[0]?.flags, 3, 'and the hole begins')
  t.ok((allocation?.extents[0]?.length ?? 0) > 4 * GiB, 'that is longer than 4 GiB')
})

void t.test('old headers: as much as their 32 bits can say', async (t) => {
  const server = await start(t)
  const client = await begin(t, server, { structured: true })
  const length = 2 ** 32 - 1
  for (const type of [nbd.NBD_CMD_TRIM, nbd.NBD_CMD_WRITE_ZEROES, nbd.NBD_CMD_CACHE]) {
    t.equal((await client.ask(type, { offset: SIZE - length, length })).error, 0, `command ${type}`)
  }
  const { chunks } = await client.ask(nbd.NBD_CMD_BLOCK_STATUS, { offset: 1, length })
  for (const { payload } of chunks) t.same(nbd.decodeBlockStatus(payload).extents.at(-1)?.length, length)
  t.equal((await client.ask(nbd.NBD_CMD_WRITE, { offset: SIZE - 3, length: 3 }, Buffer.from('end'))).error, 0)
  t.equal(await contentAt(client, SIZE - 4, 4), '\0end', 'the last byte is the last one')
  t.equal((await client.ask(nbd.NBD_CMD_READ, { offset: SIZE - 3, length: 4 })).error, nbd.NBD_EINVAL)
  const { error } = await client.ask(nbd.NBD_CMD_WRITE, { offset: SIZE - 3, length: 4 }, Buffer.alloc(4))
  t.equal(error, nbd.NBD_ENOSPC)
  t.equal((await runOk('nbdinfo', '--size', server.uri)).trim(), String(SIZE), 'libnbd sees the same size')
  t.match(await runOk('nbdinfo', '--map', '--totals', server.uri), /hole,zero/)
  const read = await client.ask(nbd.NBD_CMD_READ, { offset: 4 * GiB - 100, length: 64 * KiB })
  t.ok(read.data.equals(Buffer.alloc(64 * KiB)), 'across 4 GiB')
})
