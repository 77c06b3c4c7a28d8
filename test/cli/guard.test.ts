/** `nbd-remap guard` without a machine. With one: test/vm/guard.test.ts. */
import t from 'tap'
import { cli, newPair, Serve } from '../support/cli.js'

void t.test('an address where no QEMU answers ends the guard, instead of being asked for ever', async (t) => {
  const { controlPath } = await Serve.start(t, newPair(t))
  const { code, stderr } = await cli(t, 'guard', '--qmp', controlPath, '--control', controlPath)
  t.equal(code, 1)
  t.match(stderr, /^nbd-remap: what answers at --qmp is not QEMU: .*query-block has not been found/)
})
