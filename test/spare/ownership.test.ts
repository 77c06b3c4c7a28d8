import t from 'tap'
import type { HeaderCopy } from '../../src/spare/choose.js'
import { chooseHeader } from '../../src/spare/choose.js'
import type { Header } from '../../src/spare/format.js'
import { judgeOwner } from '../../src/spare/ownership.js'
import { sampleHeader } from '../support/samples.js'

const LOW = Buffer.from('0011223344556677', 'hex')
const MINE = Buffer.from('5011223344556677', 'hex')
const HIGH = Buffer.from('9011223344556677', 'hex')

const headerOf = (owner: Buffer | undefined, change: Partial<Header> = {}): Header => ({
  ...sampleHeader,
  ownerEpoch: 7,
  ...change,
  notes: { ...sampleHeader.notes, ...(owner && { owner }) },
})
const valid = (owner: Buffer | undefined, change?: Partial<Header>): HeaderCopy => ({
  kind: 'valid',
  header: headerOf(owner, change),
})
const mark = { uuid: sampleHeader.uuid, epoch: 7, owner: MINE }
const ours = valid(MINE)
const damaged: HeaderCopy = { kind: 'damaged', reason: 'checksum does not match' }
const unreadable: HeaderCopy = { kind: 'unreadable', reason: 'EIO' }
const absent: HeaderCopy = { kind: 'absent' }

const cases: { name: string; copies: HeaderCopy[]; expected: string | RegExp }[] = [
  { name: 'our own header', copies: [ours, ours, ours, ours, ours], expected: 'ours' },
  { name: 'ours in one copy, and damage', copies: [ours, damaged, unreadable, absent, damaged], expected: 'ours' },
  { name: 'nothing that could be read', copies: [unreadable, unreadable, damaged, absent, absent], expected: 'ours' },
  { name: 'a copy that is older than ours', copies: [ours, valid(HIGH, { ownerEpoch: 6 })], expected: 'ours' },
  { name: 'a higher epoch in a single copy', copies: [ours, ours, valid(LOW, { ownerEpoch: 8 })], expected: /epoch 8/ },
  { name: 'a higher epoch of an older program', copies: [valid(undefined, { ownerEpoch: 8 })], expected: /epoch 8/ },
  { name: 'a rival that wins', copies: [ours, valid(HIGH)], expected: /at the same moment/ },
  { name: 'a rival that gives way', copies: [ours, valid(LOW)], expected: 'contested' },
  { name: 'a rival in all copies, who thinks that it won', copies: [valid(LOW), valid(LOW)], expected: /same moment/ },
  {
    name: 'another formatting',
    copies: [ours, valid(MINE, { uuid: Buffer.alloc(16, 9) })],
    expected: /formatted anew/,
  },
  { name: 'a newer program', copies: [ours, { kind: 'unknown-version', version: 3 }], expected: /newer/ },
  { name: 'a disk that was wiped', copies: [absent, absent, absent, absent, absent], expected: /headers are gone/ },
]

for (const { name, copies, expected } of cases) {
  void t.test(`${name} means: ${String(expected)}`, (t) => {
    const verdict = judgeOwner(mark, copies)
    if (typeof expected === 'string') t.equal(verdict.kind, expected)
    else t.match(verdict, { kind: 'lost', reason: expected })
    t.end()
  })
}

void t.test('of a mixture that two servers left that started at once the one counts that has not given way', (t) => {
  const mixture = [valid(LOW), valid(HIGH), valid(LOW), valid(HIGH), valid(LOW)]
  const choice = chooseHeader(mixture)
  t.match(choice, { kind: 'chosen', header: { notes: { owner: HIGH } } })
  t.same(choice.kind === 'chosen' && choice.bad.map(({ copy }) => copy), [0, 2, 4], 'the others are rewritten')
  t.end()
})
