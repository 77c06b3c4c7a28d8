import t from 'tap'
import { assert, InvariantError, unreachable } from '../../src/util/assert.js'
import { messageOf } from '../../src/util/errors.js'
import { createLog } from '../../src/util/log.js'
import { alignDown, alignUp, formatBytes, isAligned, isPowerOfTwo, MiB } from '../../src/util/units.js'

void t.test('alignment, also beyond 32 bits', (t) => {
  const far = 2 ** 45 + 5
  t.same([alignDown(4097, 4096), alignUp(4097, 4096), alignUp(4096, 4096)], [4096, 8192, 4096])
  t.same([alignDown(far, 4096), alignUp(far, 4096)], [2 ** 45, 2 ** 45 + 4096])
  t.same([isAligned(far, 512), isAligned(2 ** 45, 512)], [false, true])
  t.end()
})

void t.test('powers of two', (t) => {
  t.same([1, 2, 512, 4096, 2 ** 31].map(isPowerOfTwo), [true, true, true, true, true])
  t.same([0, -2, 3, 513, 1.5, NaN].map(isPowerOfTwo), [false, false, false, false, false, false])
  t.end()
})

void t.test('sizes for people', (t) => {
  t.same([0, 1023, 1536, 9 * MiB].map(formatBytes), ['0 bytes', '1023 bytes', '1.5 KiB', '9 MiB'])
  t.end()
})

void t.test('a broken invariant throws and says which', (t) => {
  assert(true, 'fine')
  t.throws(() => {
    assert(false, 'one is two')
  }, new InvariantError('invariant broken: one is two'))
  t.throws(() => unreachable('x' as never), /unexpected x/)
  t.end()
})

void t.test('the message of anything thrown, and lines of a log from a level on', (t) => {
  t.equal(messageOf(new Error('oops')), 'oops')
  t.equal(messageOf('text'), 'text')
  const lines: string[] = []
  const log = createLog('warn', (line) => lines.push(line))
  log.info('quiet')
  log.warn('loud')
  log.error('louder')
  t.equal(lines.length, 2)
  t.match(lines[0], /^\d{4}-\d\d-\d\dT[\d:.]+Z warn {2}loud\n$/)
  t.end()
})
