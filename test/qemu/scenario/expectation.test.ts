/** Whether a value is as expected. */
import t from 'tap'
import { mismatches } from '../../../qemu/scenario/expectation.js'

const answer = { remaps: 20, clients: [{ name: 'a' }, { name: 'b' }], state: 'healthy' }

void t.test('what is as expected gives nothing', (t) => {
  const expected = {
    remaps: { atLeast: 20, atMost: 20 },
    'clients.1.name': { equals: 'b' },
    'clients.length': { equals: 2 },
    state: { matches: /^health/, not: 'failed', contains: 'alt' },
    '.': { not: {} },
  }
  t.same(mismatches(expected, answer), [])
  t.end()
})

void t.test('everything else is told with what was found', (t) => {
  const one = (path: string, matcher: object) => mismatches({ [path]: matcher }, answer)[0]
  t.equal(one('remaps', { atLeast: 21 }), 'remaps should be at least 21, and is 20')
  t.equal(one('remaps', { atMost: 19 }), 'remaps should be at most 19, and is 20')
  t.equal(one('clients.0.name', { equals: 'b' }), 'clients.0.name should be "b", and is "a"')
  t.equal(one('state', { matches: /x/ }), 'state should be something that matches /x/, and is "healthy"')
  t.equal(one('state', { not: 'healthy' }), 'state should be anything but "healthy", and is "healthy"')
  t.equal(
    one('clients', { contains: { name: 'c' } })?.startsWith('clients should be something that contains {"name":"c"}'),
    true,
  )
  t.equal(one('no.such.path', { equals: 1 }), 'no.such.path should be 1, and is not there')
  t.equal(one('state', { atLeast: 1 }), 'state should be at least 1, and is "healthy"', 'a text is no number')
  t.end()
})
