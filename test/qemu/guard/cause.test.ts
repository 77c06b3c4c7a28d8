import t from 'tap'
import { causeOf, causesOf, deedsOf, type Fact, type MachineError } from '../../../qemu/guard/cause.js'

const NOW = 1_000_000
const error = (operation: 'read' | 'write', noSpace = false): MachineError => ({
  ...{ operation, noSpace, reason: 'Input/output error', timeMs: NOW },
})
const clientError = (data: Record<string, unknown>, timeMs = NOW - 5): Fact => ({
  event: 'CLIENT_ERROR',
  data: { operation: 'write', sector: 800, sectors: 128, error: 'EIO', reply: 'EIO', ...data },
  timeMs,
})
const RANGE = { sector: 800, sectors: 128 }

void t.test('what QEMU tells without a place gets the place and the reason from the server', (t) => {
  t.same(causeOf(error('read'), [clientError({ operation: 'read' })]), {
    kind: 'unreadable',
    range: RANGE,
    error: 'EIO',
  })
  t.same(causeOf(error('write'), [clientError({})]), { kind: 'unwritable', range: RANGE, error: 'EIO' })
  for (const code of ['ENODEV', 'ESHUTDOWN', 'ETIMEDOUT']) {
    t.same(causeOf(error('write'), [clientError({ error: code })]), { kind: 'gone', range: RANGE, error: code })
  }
  const full = { error: 'ENOSPC', reply: 'ENOSPC', 'blocks-needed': 3 }
  t.same(causeOf(error('write', true), [clientError(full)]), {
    kind: 'no-spare',
    range: RANGE,
    error: 'ENOSPC',
    blocksNeeded: 3,
  })
  t.match(causeOf(error('write'), [clientError({ 'blocks-needed': 1 })]), { kind: 'no-spare', blocksNeeded: 1 })
  t.end()
})

void t.test('flushes and TRIMs are writes to QEMU, and reads are not', (t) => {
  for (const operation of ['flush', 'trim', 'write-zeroes']) {
    t.match(causeOf(error('write'), [clientError({ operation })]), { kind: 'unwritable' }, operation)
  }
  t.same(causeOf(error('read'), [clientError({})]), { kind: 'connection' })
  t.end()
})

void t.test(
  'the newest error before QEMU told of one counts, and none that is old or came after the connection ended',
  (t) => {
    const facts = [clientError({ sector: 1 }, NOW - 100), clientError({ sector: 2 }, NOW - 50)]
    t.match(causeOf(error('write'), facts), { range: { sector: 2 } })
    t.same(causeOf(error('write'), [clientError({}, NOW - 60_000)]), { kind: 'connection' })
    const ended: Fact = { event: 'CLIENT_DISCONNECTED', data: {}, timeMs: NOW - 10 }
    t.same(causeOf(error('write'), [...facts, ended]), { kind: 'connection' })
    t.match(causeOf(error('write'), [...facts, { ...ended, timeMs: NOW + 10 }]), { range: { sector: 2 } })
    t.same(causeOf(error('write', true), []), { kind: 'no-spare' })
    t.end()
  },
)

void t.test(
  'errors of one place are one cause, and a guard that comes late goes by the last error of the server',
  (t) => {
    const facts = [clientError({})]
    t.equal(causesOf([error('write'), error('write'), error('read')], 'failed', facts).length, 2)
    t.match(causesOf([], 'nospace', [clientError({ operation: 'read' }, NOW - 3_600_000)]), [{ kind: 'unreadable' }])
    t.same(causesOf([], 'nospace', []), [{ kind: 'no-spare' }])
    t.same(causesOf([], 'failed', []), [{ kind: 'unknown' }])
    t.end()
  },
)

void t.test('what the server did with blocks of the request, and with no others', (t) => {
  const at = (event: string, key: string, sector: number): Fact => ({
    event,
    data: { [key]: sector, sectors: 8 },
    timeMs: NOW,
  })
  const facts = [
    at('IO_ERROR', 'sector', 800),
    at('IO_ERROR', 'sector', 928),
    at('REMAP_ADDED', 'main-sector', 920),
    clientError({}),
  ]
  const cause = causeOf(error('write'), facts)
  t.same(deedsOf(cause, error('write'), facts), ['bad at sector 800', '1 of its blocks were remapped'])
  t.end()
})
