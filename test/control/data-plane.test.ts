/** The two sides of the channel between the control thread and the data plane, in one thread. */
import t from 'tap'
import { Answering } from '../../src/control/answering.js'
import { DataPlane, type DataPlaneOptions } from '../../src/control/data-plane.js'
import type { Facts, NbdClient, Question, ToControl } from '../../src/control/messages.js'
import type { Operations } from '../../src/control/operations.js'
import { QmpReplyError } from '../../src/qmp/error.js'
import { newStatistics } from '../../src/remap/statistics.js'

const statistics = newStatistics()
const facts = { statistics: statistics.memory } as unknown as Facts
const client: NbdClient = { id: 7, address: 'unix', exportName: 'disk', since: new Date(), requestsInFlight: 3 }

/** A channel whose far end can be made to hang: questions then wait until `resume`. */
function connect(operations: Operations = new Map(), options: DataPlaneOptions = {}) {
  const events: [string, unknown][] = []
  const waiting: Question[] = []
  let hangs = false
  const control = new DataPlane(
    (question) => {
      if (hangs) waiting.push(question)
      else void answering.receive(question)
    },
    (event, data) => events.push([event, data]),
    { isBusy: () => false, ...options },
  )
  const send = (message: ToControl): void => {
    control.receive(message)
  }
  const answering = new Answering(send, operations, { clients: () => [client], spares: () => [] })
  const hang = (): void => {
    hangs = true
  }
  const resume = async (): Promise<void> => {
    hangs = false
    for (const question of waiting.splice(0)) await answering.receive(question)
  }
  return { control, send, events, hang, resume }
}

void t.test('facts are waited for, and numbers are read while the data plane counts them', async (t) => {
  const { control, send } = connect()
  let isKnown = false
  const waiting = control.facts.then(() => (isKnown = true))
  await new Promise((resolve) => setImmediate(resolve))
  t.notOk(isKnown)
  send({ kind: 'facts', facts })
  await waiting
  const seen = await control.statistics()
  statistics.reads += 5
  t.equal(seen.reads, 5)
  t.match(seen, { reads: 5, writes: 0 })
})

void t.test('events pass through, and clients are those that were told last', async (t) => {
  const { control, send, events } = connect()
  send({ kind: 'event', event: 'SPARE_LOW', data: { 'free-blocks': 1 } })
  t.same(events, [['SPARE_LOW', { 'free-blocks': 1 }]])
  t.same(control.clients, [])
  send({ kind: 'clients', clients: [client, client] })
  t.equal(control.clients.length, 2)
  t.equal(await control.state(), 'running')
  t.same(control.clients, [client], 'the answer to a hello brings them')
})

void t.test('a data plane that does not answer is stalled until it does', async (t) => {
  const { control, send, hang, resume } = connect()
  send({ kind: 'facts', facts })
  hang()
  t.same(await Promise.all([control.state(), control.state()]), ['stalled', 'stalled'])
  t.equal(await control.state(), 'stalled')
  await resume()
  t.equal(await control.state(), 'running')
})

void t.test('a data plane that is only busy is waited for, and not for ever', async (t) => {
  let looks = 0
  let wake = (): Promise<void> | undefined => undefined
  const isBusy = (): boolean => {
    if (++looks === 2) void wake()
    return true
  }
  const { control, send, hang, resume } = connect(new Map(), { isBusy, silenceMaxMs: 60_000 })
  wake = resume
  send({ kind: 'facts', facts })
  send({ kind: 'clients', clients: [] })
  hang()
  t.equal(await control.state(), 'running')
  t.same(control.clients, [client], 'and its clients are as they are now')

  const looping = connect(new Map(), { isBusy: () => true, silenceMaxMs: 100 })
  looping.hang()
  t.equal(await looping.control.state(), 'stalled')
})

void t.test('operations answer with what they return or throw', async (t) => {
  const { control, send } = connect(
    new Map<string, (args: Record<string, unknown>) => unknown>([
      ['double', ({ n }) => 2 * (n as number)],
      ['later', () => Promise.resolve({ done: true })],
      ['refuse', () => Promise.reject(new QmpReplyError('no', 'DeviceNotFound'))],
      [
        'fail',
        () => {
          throw new TypeError('a bug')
        },
      ],
    ]),
  )
  send({ kind: 'facts', facts })
  t.equal(await control.ask('double', { n: 21 }), 42)
  t.same(await control.ask('later', {}), { done: true })
  await t.rejects(control.ask('refuse', {}), new QmpReplyError('no', 'DeviceNotFound'))
  await t.rejects(control.ask('fail', {}), new QmpReplyError('a bug'))
})

void t.test('a question is given up after a long silence only, and not carried out afterwards', async (t) => {
  let carriedOut = 0
  const { control, send, hang, resume } = connect(new Map([['count', () => ++carriedOut]]), { silenceMaxMs: 200 })
  send({ kind: 'facts', facts })
  hang()
  const message = 'the data plane does not answer: a disk hangs; nothing was changed'
  await t.rejects(control.ask('count', {}), { message })
  await t.rejects(control.ask('count', {}), { message }, 'and so is every further one')
  await resume()
  t.equal(carriedOut, 0)
  t.equal(await control.ask('count', {}), 1)
})

void t.test('a data plane that is slow to take a question is waited for while it shows signs of life', async (t) => {
  const { control, send, hang, resume } = connect(new Map([['count', () => 1]]), { silenceMaxMs: 1500 })
  send({ kind: 'facts', facts })
  hang()
  let isFinished = false
  const asked = control.ask('count', {}).finally(() => (isFinished = true))
  for (let n = 0; n < 7; n++) {
    await new Promise((resolve) => setTimeout(resolve, 250))
    send({ kind: 'event', event: 'SPARE_LOW', data: {} })
  }
  t.notOk(isFinished)
  await resume()
  t.equal(await asked, 1)
})

void t.test('a question that was taken is waited for, however long it takes', async (t) => {
  let finish: (value: string) => void = () => undefined
  const result = new Promise<string>((resolve) => {
    finish = resolve
  })
  const { control, send } = connect(new Map([['slow', () => result]]))
  send({ kind: 'facts', facts })
  const asked = control.ask('slow', {})
  const timer = setTimeout(() => {
    finish('done')
  }, 200)
  t.equal(await asked, 'done')
  clearTimeout(timer)
})
