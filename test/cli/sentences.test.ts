/** What the operating system refuses is said in words, with the file or the address, by every command that meets it. */
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { cli, fails, MANY_PROCESSES_TIMEOUT_MS, newPair } from '../support/cli.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

void t.test('files that cannot be read', async (t) => {
  const { folder, main, spare } = newPair(t)
  const pair = ['--main', main, '--spare', spare, '--socket', join(folder, 's')]
  const none = join(folder, 'none')
  const below = join(main, 'x')
  const cases: [number, RegExp, string[]][] = [
    [2, /the scenario \S*none\.yaml cannot be read: there is no such file$/, ['scenario', 'check', `${none}.yaml`]],
    [2, /the scenario \S* cannot be read: it is a folder, not a file$/, ['scenario', 'check', folder]],
    [2, /--faults \S*none: there is no such file$/, ['serve', ...pair, '--faults', none]],
    [2, /--script \S*none: there is no such file$/, ['console', '--script', none, 'x.qmp']],
    [1, /--from \S*none: there is no such file$/, ['add', '--control', 'x.qmp', '--from', none]],
    [
      1,
      /cannot open \S*main\.img\/x: there is no such file: a part of its path is no folder$/,
      ['verify', '--spare', below],
    ],
    [1, /cannot open \S*x: there is no such file: a part of its path/, ['format', '--main', below, '--spare', spare]],
    [1, /cannot open \S*x: there is no such file: a part of its path/, ['serve', ...pair, '--replica', below]],
    [2, /\S*main\.img is no block device: give what nbd-remap attach has printed/, ['detach', main]],
  ]
  for (const [code, sentence, args] of cases) await fails(t, code, sentence, args, [main, spare])
})

void t.test('files that cannot be written', async (t) => {
  const { folder, main, spare } = newPair(t)
  await cli(t, 'format', '--main', main, '--spare', spare)
  const pair = ['--main', main, '--spare', spare, '--socket', join(folder, 's')]
  const nowhere = join(folder, 'none', 'x')
  const below = join(main, 'x')
  const server = createServer((socket) => socket.write('{"QMP": {"version": {}, "capabilities": []}}\n')).listen(
    join(folder, 'm'),
  )
  t.teardown(() => server.close())
  const cases: [number, RegExp, string[]][] = [
    [2, /--log-file \S*main\.img is the disk \S*main\.img: give another file$/, ['serve', ...pair, '--log-file', main]],
    [1, /cannot log to \S*x: its folder does not exist$/, ['serve', ...pair, '--log-file', nowhere]],
    [1, /cannot log to \S*: it is a folder, not a file$/, ['serve', ...pair, '--log-file', folder]],
    [
      1,
      /main\.img\/x: there is no such file: a part of its path is no folder; give another place with --control/,
      ['serve', ...pair, '--control', below],
    ],
    [1, /\S*x cannot be written: its folder does not exist$/, ['export', '--spare', spare, nowhere]],
    [
      1,
      /cannot record to \S*x: its folder does not exist$/,
      ['qmp-share', join(folder, 'm'), '--listen', join(folder, 'n'), '--record', nowhere],
    ],
  ]
  for (const [code, sentence, args] of cases) await fails(t, code, sentence, args, [main, spare])
})

void t.test('addresses at which nobody answers, and what is no address', async (t) => {
  const { folder } = newPair(t)
  const none = join(folder, 'none')
  const file = join(folder, 'file')
  writeFileSync(file, '')
  const dead = await deadAddress()
  const cases: [number, RegExp, string[]][] = [
    [
      1,
      /QEMU cannot be asked: cannot connect to \S*none: the socket does not exist$/,
      ['attach-vm', '--qmp', none, '--device', 'vd0', '--control', none],
    ],
    [1, /cannot connect to \S*file: connection refused$/, ['console', file]],
    [1, /cannot connect to 127\.0\.0\.1:\d+: connection refused$/, ['console', dead]],
    [
      1,
      /nobody listens at 127\.0\.0\.1:\d+: connection refused; start the server first/,
      ['conformance', `nbd://${dead}/x`],
    ],
    [2, /'127\.0\.0\.1:99999' is no address: ports end at 65535$/, ['status', '--control', '127.0.0.1:99999']],
    [
      2,
      /'127\.0\.0\.1:99999' is no address: ports end at 65535$/,
      ['guard', '--qmp', '127.0.0.1:99999', '--control', none],
    ],
    [
      2,
      /an address is a path, HOST:PORT or ws:\/\/HOST:PORT\/qmp, not nothing$/,
      ['guard', '--qmp', '', '--control', none],
    ],
  ]
  for (const [code, sentence, args] of cases) await fails(t, code, sentence, args)
})

/** A port that was free a moment ago. */
async function deadAddress(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return `127.0.0.1:${typeof address === 'object' ? String(address?.port) : ''}`
}
