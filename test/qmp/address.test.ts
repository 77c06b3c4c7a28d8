import t from 'tap'
import { formatAddress, parseAddress } from '../../src/qmp/index.js'

void t.test('an address is a path, a host and a port, or a URL, also with the words that QEMU has before it', (t) => {
  for (const [text, address] of [
    ['/run/qemu.qmp', '/run/qemu.qmp'],
    ['unix:/run/qemu.qmp', '/run/qemu.qmp'],
    ['unix:localhost:4444', 'localhost:4444'],
    ['./unix:a', './unix:a'],
    ['localhost:4444', { host: 'localhost', port: 4444 }],
    ['tcp:localhost:4444', { host: 'localhost', port: 4444 }],
    ['tcp:[::1]:4444', { host: '::1', port: 4444 }],
    [':4444', { host: '127.0.0.1', port: 4444 }],
    ['./localhost:4444', './localhost:4444'],
  ] as const) {
    t.same(parseAddress(text), address, text)
  }
  t.same(parseAddress('ws://[::1]:80/qmp', 'secret'), { url: 'ws://[::1]:80/qmp', token: 'secret' })
  t.end()
})

void t.test('messages name an address as people write it', (t) => {
  for (const text of ['/run/qemu.qmp', 'localhost:4444', '[::1]:4444', 'ws://host/qmp'])
    t.equal(formatAddress(parseAddress(text)), text)
  t.end()
})
