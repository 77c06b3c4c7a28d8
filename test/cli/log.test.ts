import { existsSync } from 'node:fs'
import t from 'tap'
import { cli, newPair, Program, Serve } from '../support/cli.js'
import { Devices } from '../support/devices.js'

void t.test('the log of a server is shown over its control socket, filtered, as text and as JSON', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const control = ['--control', server.controlPath]
  t.match(await cli(t, 'add', ...control, '8', 'auto', '800'), { code: 0 })
  const all = await cli(t, 'log', ...control)
  t.match(all.stdout, /^\S+Z info  .*initial size=64/m)
  t.match(all.stdout, /^\S+Z info  Adaptive hash table resize: 64 -> 128 buckets \(count=97\)$/m)
  t.match(all.stdout, /^\S+Z warn  REMAP_ADDED \{"main-sector":8,/m)
  t.equal(all.stdout.match(/REMAP_ADDED/g)?.length, 1, 'an event is there once')
  const warnings = await cli(t, 'log', ...control, '--level', 'warn', '--json')
  t.match(
    warnings.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown),
    [{ level: 'warn', event: 'REMAP_ADDED', message: /^REMAP_ADDED/ }],
  )
  t.match((await cli(t, 'log', ...control, '--grep', 'resize: (64|128)', '--lines', '1')).stdout, /^.*64 -> 128.*\n$/)
  t.match(await cli(t, 'log', ...control, '--grep', '('), { code: 2, stderr: /regular expression/ })
  t.match(await cli(t, 'log', ...control, 'disk'), { code: 2, stderr: /not both/ })
  t.match(await cli(t, 'log', '--control', '/nonexistent'), { code: 1, stderr: /there is no such socket/ })
})

void t.test('follow prints what comes, as it comes, and ends with the server', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const control = ['--control', server.controlPath]
  const follower = new Program(t, ['log', ...control, '--follow', '--grep', 'Adaptive'])
  t.match(await cli(t, 'add', ...control, '8', 'auto', '800'), { code: 0 })
  await follower.until(() => follower.stdout.includes('(count=97)'), 'the resize')
  await server.end()
  t.match(await follower.exited, { code: 0 })
})

void t.test('without a name all devices are shown, also those that are no more', async (t) => {
  const devices = Devices.open(t)
  t.match(await cli(t, 'log'), { code: 0, stdout: '', stderr: /there are no devices in/ })
  const [one, two] = [newPair(t), newPair(t)]
  for (const [name, { main, spare }] of [
    ['one', one],
    ['two', two],
  ] as const)
    await devices.dmsetupOk('create', name, '--table', `0 8192 dm-remap ${main} ${spare}`)
  await devices.dmsetupOk('message', 'one', '0', 'add_remap 0 0 97')
  await devices.dmsetupOk('remove', 'one')
  const { stdout } = await cli(t, 'log')
  t.match(stdout, /info  dm-remap one: Adaptive hash table resize: 64 -> 128 buckets \(count=97\)/)
  t.match(stdout, /info  dm-remap one: message "add_remap 0 0 97": Added remap: 0 -> 0 \(length 97\)/)
  t.match(stdout, /info  dm-remap one: stopped/)
  t.match(stdout, /info  dm-remap two: main=/)
  const times = stdout
    .trim()
    .split('\n')
    .map((line) => line.slice(0, 24))
  t.same(times, [...times].sort())
  t.match((await cli(t, 'log', 'one')).stdout, /dm-remap one: stopped/)
  t.match(await cli(t, 'log', 'three'), { code: 1, stderr: /device three has no log/ })
  t.ok(existsSync(devices.path('one', 'log')))
})
