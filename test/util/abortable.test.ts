/** Work that nobody waits for any more. */
import t from 'tap'
import { abortable } from '../../src/util/abortable.js'

const reason = (): Error => new Error('called off')

void t.test('it settles as the work does', async (t) => {
  const { signal } = new AbortController()
  t.equal(await abortable(Promise.resolve(3), signal, reason), 3)
  await t.rejects(abortable(Promise.reject(new Error('broken')), signal, reason), /broken/)
})

void t.test('when the signal fires first, or has fired before, it fails with the reason', async (t) => {
  const controller = new AbortController()
  const endless = new Promise<never>(() => undefined)
  const waiting = abortable(endless, controller.signal, reason)
  controller.abort()
  await t.rejects(waiting, /called off/)
  await t.rejects(abortable(endless, controller.signal, reason), /called off/)
})
