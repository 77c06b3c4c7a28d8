import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { WriteOrder } from '../../src/device/write-order.js'

void t.test('overlapping tasks run in the order they came, others side by side', async (t) => {
  const order = new WriteOrder()
  const events: string[] = []
  const task = (name: string) => async (): Promise<void> => {
    events.push(`+${name}`)
    await turn()
    events.push(`-${name}`)
  }
  await Promise.all([
    order.run(0, 10, task('a')),
    order.run(5, 15, task('b')),
    order.run(10, 20, task('c')),
    order.run(20, 30, task('d')),
  ])
  t.same(events.slice(0, 2), ['+a', '+d'])
  t.same(
    events.filter((event) => !event.endsWith('d')),
    ['+a', '-a', '+b', '-b', '+c', '-c'],
  )
})

void t.test('a failed task lets the next one run, and fails alone', async (t) => {
  const order = new WriteOrder()
  const first = order.run(0, 10, () => Promise.reject(new Error('bad')))
  const second = order.run(0, 10, () => Promise.resolve('fine'))
  await t.rejects(first, { message: 'bad' })
  t.equal(await second, 'fine')
})
