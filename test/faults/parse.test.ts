import t from 'tap'
import { FaultRuleError, parseFaultFile, parseFaultRule, parseSectors } from '../../src/faults/parse.js'

void t.test('rules are taken as they are written', (t) => {
  const rule = { disk: 'spare', index: 1, sectors: '8-15,32', operations: ['write'], errno: 'ENOSPC', times: 3 }
  t.same(parseFaultRule(rule), rule)
  t.same(parseFaultRule({}), {}, 'an empty rule is a disk that fails')
  t.same(parseFaultFile([{ id: 'a' }]), { rules: [{ id: 'a' }] }, 'a list alone')
  t.same(parseFaultFile({ seed: '1', rules: [] }), { seed: '1', rules: [] })
  t.end()
})

void t.test('sectors are numbers, ranges and lists of these', (t) => {
  t.same(parseSectors(7), [[7, 8]])
  t.same(parseSectors('4096-4103, 9'), [
    [4096, 4104],
    [9, 10],
  ])
  t.same(parseSectors([1, '3-4', ['8']]), [
    [1, 2],
    [3, 5],
    [8, 9],
  ])
  for (const bad of ['', 'x', '5-', '9-8', -1, 1.5, true, {}, '1,,2', '99999999999999999'])
    t.throws(() => parseSectors(bad), FaultRuleError, JSON.stringify(bad))
  t.end()
})

const REFUSALS: readonly (readonly [rule: unknown, message: RegExp, member?: string])[] = [
  [7, /'rules\[0\]' should be an object/],
  [{ colour: 'red' }, /'rules\[0\]\.colour' is unexpected/, 'colour'],
  [{ effect: 'explode' }, /'rules\[0\]\.effect' does not accept value 'explode'/, 'effect'],
  [{ sector: 1, map: '' }, /'map' does not go with 'sector'/, 'map'],
  [{ count: 2 }, /'count' goes with 'sector'/, 'count'],
  [{ index: 0 }, /the disk is none/, 'index'],
  [{ 'delay-ms': 5 }, /goes with the effect delay or ageing, not with error/, 'delay-ms'],
  [{ effect: 'delay' }, /'delay-ms' is missing/, 'delay-ms'],
  [{ effect: 'delay', 'delay-ms': 5, distribution: 'uniform' }, /at least 'delay-ms'/, 'delay-max-ms'],
  [{ effect: 'delay', distribution: 'percentiles' }, /missing or empty/, 'percentiles'],
  [{ effect: 'tear', operations: ['read'] }, /has read, and the effect tear is for write/, 'operations'],
  [{ effect: 'gone', sector: 1 }, /all of the disk is/, 'sector'],
  [{ operations: [] }, /is empty/, 'operations'],
  [{ effect: 'hang', 'duration-ms': 1e11 }, /from 1 to 86400000/, 'duration-ms'],
  [{ effect: 'corrupt', bits: 65 }, /at most 64/, 'bits'],
  [{ probability: 2 }, /from 0 to 1/, 'probability'],
  [{ grow: { sectors: 1 } }, /needs one of 'every-requests' and 'every-ms'/, 'grow'],
  [{ effect: 'corrupt', corruption: 'stale' }, /stale is of writes/, 'corruption'],
  [{ effect: 'ageing', 'slow-after': 10, 'weak-after': 5 }, /at least 'slow-after', 10/, 'weak-after'],
  [{ id: 'a b' }, /letters, digits/, 'id'],
  [{ within: '1-2,5', clusters: 1 }, /FIRST-LAST/, 'within'],
]

for (const [rule, message, member] of REFUSALS) {
  void t.test(`refused: ${JSON.stringify(rule)}`, (t) => {
    t.throws(() => parseFaultFile({ rules: [rule] }), { name: 'FaultRuleError', message, ...(member && { member }) })
    t.end()
  })
}

void t.test('a file that holds no rules is refused', (t) => {
  t.throws(() => parseFaultFile('x'), /a list of rules/)
  t.throws(() => parseFaultFile({}), /for 'rules', expected: array/)
  t.throws(() => parseFaultFile({ rules: [], sed: '1' }), /'sed' is unexpected/)
  t.end()
})
