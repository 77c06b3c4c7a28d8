/** What somebody may have meant. */
import t from 'tap'
import { editDistance, nearest } from '../../src/util/nearest.js'

void t.test('distances count letters and swapped neighbours', (t) => {
  t.equal(editDistance('', 'abc'), 3)
  t.equal(editDistance('stop', 'stop'), 0)
  t.equal(editDistance('stpo', 'stop'), 1)
  t.equal(editDistance('kitten', 'sitting'), 3)
  t.end()
})

void t.test('only what a slip explains is near, the closest first', (t) => {
  t.same(nearest('query-staus', ['query-stats', 'query-status', 'stop']), ['query-stats', 'query-status'].sort())
  t.same(nearest('x', ['quit']), [])
  t.end()
})
