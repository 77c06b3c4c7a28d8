import t from 'tap'
import { MiB } from '../../src/util/units.js'
import { BASE_ALLOCATION } from '../../src/nbd/protocol.js'
import { selectContexts } from '../../src/server/meta-context.js'
import { advertisedBlockSizes, findExport, transmissionFlags } from '../../src/server/export.js'
import { MemoryDevice } from '../support/memory-device.js'

const named = (name: string) => ({ name, description: '', device: new MemoryDevice(512), readOnly: false })

void t.test('an export is found by its name, the first one also without', (t) => {
  const [a, b, unnamed] = [named('a'), named('b'), named('')]
  t.equal(findExport([a, b], 'b'), b)
  t.equal(findExport([a, b], ''), a)
  t.equal(findExport([a, b, unnamed], ''), unnamed, 'a name that is empty goes first')
  t.equal(findExport([a, b], 'c'), undefined)
  t.end()
})

void t.test('transmission flags', (t) => {
  const it = named('a')
  const simple = { style: 'simple' as const, contexts: [] }
  const contexts = selectContexts(it, [BASE_ALLOCATION])
  t.equal(transmissionFlags(it, simple), 0b1101_0110_1101)
  t.equal(transmissionFlags(it, { ...simple, style: 'structured' }), 0b1101_1110_1101, 'DF with chunks')
  t.equal(transmissionFlags(it, { ...simple, style: 'extended' }), 0b1101_1110_1101)
  t.equal(transmissionFlags(it, { style: 'structured', contexts }), 0b1101_1110_1101)
  t.equal(transmissionFlags(it, { style: 'extended', contexts }), 0b1_1101_1110_1101, 'payloads of BLOCK_STATUS')
  t.equal(transmissionFlags({ ...it, readOnly: true }, simple), 0b101_0000_1111, 'nothing that changes data')
  it.device.readOnly = true
  t.equal(transmissionFlags(it, simple), 0b101_0000_1111, 'a device that cannot be written')
  t.end()
})

void t.test('the minimum block size is 1 and the maximum 64 MiB, whatever the device says', (t) => {
  const sizes = (minimum: number, preferred: number, maximum: number) => {
    const it = named('a')
    it.device.blockSizes = { minimum, preferred, maximum }
    return advertisedBlockSizes(it)
  }
  t.same(sizes(4096, 65536, MiB), { minimum: 1, preferred: 65536, maximum: 64 * MiB })
  t.same(sizes(1, 1, 512), { minimum: 1, preferred: 512, maximum: 64 * MiB })
  t.same(sizes(1, 5000, MiB), { minimum: 1, preferred: 8192, maximum: 64 * MiB }, 'a power of two')
  t.same(sizes(1, 128 * MiB, 128 * MiB), { minimum: 1, preferred: 64 * MiB, maximum: 64 * MiB })
  t.end()
})
