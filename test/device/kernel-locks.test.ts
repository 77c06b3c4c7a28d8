import { closeSync, openSync } from 'node:fs'
import t from 'tap'
import { lockFile } from '../../src/device/disk-lock.js'
import { holdersOf, locksIn, locksOfPath, locksOn } from '../../src/device/kernel-locks.js'
import { imageFile } from '../support/upstream-servers.js'

void t.test('locks are told apart by file, and who waits for one has none', (t) => {
  const text = `1: FLOCK  ADVISORY  WRITE 27401 fe:00:2296034 0 EOF
2: OFDLCK ADVISORY  READ -1 fe:00:22960 100 101
3: POSIX  ADVISORY  WRITE 812 fe:00:2296034 203 203
3: -> POSIX  ADVISORY  WRITE 813 fe:00:2296034 204 204
4: OFDLCK ADVISORY  READ -1 fe:00:2296034 100 EOF
5: LEASE  ACTIVE    READ 27405 fe:00:2296034 0 EOF
`
  t.same(locksIn(text, 'fe:00:2296034'), [
    { kind: 'FLOCK', first: 0, last: Infinity },
    { kind: 'POSIX', first: 203, last: 203 },
    { kind: 'OFDLCK', first: 100, last: Infinity },
  ])
  const ofProcess = 'pos:\t0\nlock:\t1: OFDLCK ADVISORY  READ -1 0:2f:7 100 101\n'
  t.same(locksIn(ofProcess, '0:2f:7'), [{ kind: 'OFDLCK', first: 100, last: 101 }])
  t.end()
})

void t.test(
  'a lock of this machine is found by the open file and by its path, and its holder but for oneself',
  async (t) => {
    const path = await imageFile(t, 4096)
    const [holder, other] = [openSync(path, 'r'), openSync(path, 'r')]
    t.same(locksOfPath(path), [])
    lockFile(holder, path, 'exclusive')
    t.same(locksOn(other), [{ kind: 'FLOCK', first: 0, last: Infinity }])
    t.same(locksOfPath(path), locksOn(other))
    t.same(
      holdersOf(other, () => true),
      [],
      'this process is none of the others',
    )
    closeSync(holder)
    t.same(locksOn(other), [])
    closeSync(other)
  },
)
