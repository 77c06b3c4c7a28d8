import t from 'tap'
import { cli, fails, newPair, MANY_PROCESSES_TIMEOUT_MS } from '../support/cli.js'

const COMMANDS = ['format', 'serve', 'status', 'stats', 'remaps', 'verify', 'demo']

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

void t.test('--help of every command exits 0, says what it does and shows an example', async (t) => {
  for (const args of [[], ...COMMANDS.map((command) => [command])]) {
    const { code, stdout, stderr } = await cli(t, ...args, '--help')
    t.equal(code, 0, args.join(' '))
    t.equal(stderr, '')
    t.match(stdout, /^Usage: nbd-remap/)
    t.match(stdout, /\nExample:\n {2}\S/)
  }
})

void t.test('the help of the program names all commands and exit codes', async (t) => {
  const { stdout } = await cli(t, '--help')
  for (const command of COMMANDS) t.match(stdout, new RegExp(`^  ${command} `, 'm'))
  t.match(stdout, /Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused/)
})

void t.test('--version prints the version', async (t) => {
  const { code, stdout } = await cli(t, '--version')
  t.equal(code, 0)
  t.match(stdout, /^\d+\.\d+\.\d+\S*\n$/)
})

void t.test('without arguments it shows its help and fails with code 2', async (t) => {
  const { code, stdout, stderr } = await cli(t)
  t.equal(code, 2)
  t.equal(stdout, '')
  t.match(stderr, /^Usage: nbd-remap/)
})

void t.test('wrong usage is one sentence and code 2, and touches nothing', async (t) => {
  const { main, spare } = newPair(t)
  const pair = ['--main', main, '--spare', spare]
  const cases: [RegExp, string[]][] = [
    [/unknown command 'srve'.*Did you mean serve/, ['srve']],
    [/required option '--main <main>' not specified/, ['serve']],
    [/required option '--spare <spare>' not specified/, ['serve', '--main', main]],
    [/unknown option '--sockt'.*Did you mean --socket/, ['serve', ...pair, '--sockt', 'x']],
    [/--main <main>' argument '' is invalid.*a file, a block device, or an NBD URI/, ['serve', '--main', '']],
    [/--socket <path>' cannot be used with option '--listen/, ['serve', ...pair, '--socket', 'a', '--listen', ':1']],
    [/must be a number of percent/, ['serve', ...pair, '--spare-low', '101']],
    [/--on-exhausted.*argument 'wait' is invalid/, ['serve', ...pair, '--on-exhausted', 'wait']],
    [/missing required argument 'spare'/, ['spare', 'add', '--control', 'x']],
    [/required option '--control <address>' not specified/, ['spare', 'list']],
    [/--socket <path>' argument '' is invalid/, ['serve', ...pair, '--socket', '']],
    [/has 120 bytes, and the path of a socket has 107 at most/, ['serve', ...pair, '--socket', 'x'.repeat(120)]],
    [/has 120 bytes, and the path of a socket has 107 at most/, ['serve', ...pair, '--control', 'x'.repeat(120)]],
    [/must be HOST:PORT/, ['serve', ...pair, '--listen', 'localhost']],
    [/must be HOST:PORT/, ['serve', ...pair, '--listen', 'localhost:65536']],
    [/power of two from 512 to 32768/, ['serve', ...pair, '--create', '--block-size', '1000']],
    [/power of two from 512 to 32768/, ['format', ...pair, '--block-size', '65536']],
    [/power of two from 512 to 32768/, ['format', ...pair, '--block-size', '4k']],
    [/--block-size goes with --create/, ['serve', ...pair, '--block-size', '4096']],
    [/--create does not go with --read-only/, ['serve', ...pair, '--create', '--read-only']],
    [/Allowed choices are eio, zero/, ['serve', ...pair, '--on-read-error', 'guess']],
    [/whole number from 0/, ['serve', ...pair, '--read-retries', '-1']],
    [/4096 bytes at most/, ['serve', ...pair, '--name', 'x'.repeat(4097)]],
    [/too many arguments/, ['serve', ...pair, 'extra']],
    [/invalid NBD URI 'nbd:\/\/x:y'/, ['serve', '--main', 'nbd://x:y', '--spare', spare]],
    [/invalid NBD URI 'nbd\+unix:\/\/\/disk'.*socket/, ['format', '--main', main, '--spare', 'nbd+unix:///disk']],
    [/required option '--control <address>' not specified/, ['status']],
    [/number of seconds/, ['status', '--control', 'x', '--watch', '0']],
    [/a sector number/, ['remaps', '--control', 'x', '--from-sector', 'first']],
    [/whole number from 1/, ['remaps', '--control', 'x', '--limit', '0']],
    [/give either --spare, .* or --control, /, ['verify']],
    [/required option '--spare <spare>' not specified/, ['dump']],
  ]
  for (const [sentence, args] of cases) await fails(t, 2, sentence, args, [main, spare])
})
