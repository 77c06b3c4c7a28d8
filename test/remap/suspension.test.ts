import t from 'tap'
import { answer, badSectors, createRig, pattern, readFrom } from '../support/rig.js'

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

void t.test('a suspended disk holds every request, and resume carries them out in their order', async (t) => {
  const rig = await createRig()
  const { target } = rig
  await target.suspension.suspend()
  t.ok(target.suspension.isSuspended)
  t.equal(target.statistics.suspended, 1)
  const done: string[] = []
  const into = Buffer.alloc(512)
  const requests = [
    answer(() => target.write(1000, [Buffer.alloc(512, 7)])).then(() => done.push('write')),
    answer(() => target.read(1000, into)).then(() => done.push('read')),
    answer(() => target.writeZeroes(8192, 512)).then(() => done.push('zero')),
    answer(() => target.trim(16_384, 512)).then(() => done.push('trim')),
    answer(() => target.flush()).then(() => done.push('flush')),
  ]
  t.notOk(target.writeNow(0, Buffer.alloc(512), 0, 512), 'nothing is done at once either')
  for (let n = 0; n < 20; n++) await tick()
  t.same(done, [])
  t.ok(rig.mainBytes.equals(pattern(0, rig.mainBytes.length)), 'the disk is untouched')
  t.ok(await target.suspension.resume())
  await Promise.all(requests)
  t.same(done.sort(), ['flush', 'read', 'trim', 'write', 'zero'])
  t.ok(into.equals(Buffer.alloc(512, 7)), 'the read came after the write')
  t.equal(target.statistics.suspended, 0)
  t.notOk(await target.suspension.resume(), 'there is nothing to resume')
})

void t.test('suspend waits for what is in flight, and flushes it', async (t) => {
  const rig = await createRig()
  const { target, main } = rig
  const order: string[] = []
  let goOn: () => void = () => undefined
  const gate = new Promise<void>((resolve) => {
    goOn = resolve
  })
  const [write, flush] = [main.write.bind(main), main.flush.bind(main)]
  main.write = async (offset, chunks, options) => {
    await gate
    await write(offset, chunks, options)
    order.push('written')
  }
  main.flush = () => {
    order.push('flushed')
    return flush()
  }
  const request = answer(() => target.write(0, [Buffer.alloc(512, 9)]))
  const suspending = target.suspension.suspend().then(() => order.push('suspended'))
  for (let n = 0; n < 20; n++) await tick()
  t.same(order, [])
  goOn()
  await Promise.all([request, suspending])
  t.same(order, ['written', 'flushed', 'suspended'])
  await target.suspension.resume()
  t.ok((await readFrom(target, 0, 512)).equals(Buffer.alloc(512, 9)))
})

void t.test('suspend fails when the flush does, and the disk goes on', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['flush'], 0))
  await t.rejects(rig.target.suspension.suspend(), { name: 'DeviceError' })
  t.notOk(rig.target.suspension.isSuspended)
  await rig.target.write(0, [Buffer.alloc(512, 1)])
})
