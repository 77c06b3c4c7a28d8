import { resolve } from 'node:path'
import t from 'tap'
import { NbdUriError, formatNbdUri, isNbdUri, parseNbdUri } from '../../src/nbd/uri.js'

const tcp = (host: string, port: number, exportName: string, tls = false) => ({
  address: { transport: 'tcp' as const, host, port },
  exportName,
  tls,
})
const unix = (path: string, exportName: string, tls = false) => ({
  address: { transport: 'unix' as const, path },
  exportName,
  tls,
})

const VALID = [
  ['nbd://example.com/disk', tcp('example.com', 10809, 'disk')],
  ['nbd://example.com', tcp('example.com', 10809, '')],
  ['nbd://example.com/', tcp('example.com', 10809, '')],
  ['nbd://example.com:/', tcp('example.com', 10809, '')],
  ['nbd://example.com//disk', tcp('example.com', 10809, '/disk')],
  ['nbd://example.com:7777/a/b', tcp('example.com', 7777, 'a/b')],
  ['nbd://example.com/hello%20world', tcp('example.com', 10809, 'hello world')],
  ['nbd://example.com/%C3%A4%2F%25', tcp('example.com', 10809, 'ä/%')],
  ['nbd+tcp://127.0.0.1:1/x', tcp('127.0.0.1', 1, 'x')],
  ['NBD://EXAMPLE.com/Disk', tcp('example.com', 10809, 'Disk')],
  ['nbd://[::1]/x', tcp('::1', 10809, 'x')],
  ['nbd://[2001:DB8:0:0::1]:99/x', tcp('2001:db8::1', 99, 'x')],
  ['nbd://[fe80::1%25eth0]/x', tcp('fe80::1%eth0', 10809, 'x')],
  ['nbds://example.com/x', tcp('example.com', 10809, 'x', true)],
  ['nbd+unix:///disk?socket=/run/nbd.sock', unix('/run/nbd.sock', 'disk')],
  ['nbd+unix://?socket=/run/nbd.sock', unix('/run/nbd.sock', '')],
  ['nbd+unix:////disk?socket=/run/a%26b%20c', unix('/run/a&b c', '/disk')],
  ['nbd+unix:///?socket=/run/a=b', unix('/run/a=b', '')],
  ['nbds+unix:///x?socket=/s', unix('/s', 'x', true)],
] as const

for (const [text, expected] of VALID) {
  void t.test(`parses ${text}`, (t) => {
    t.same(parseNbdUri(text), expected)
    t.equal(isNbdUri(text), true)
    t.end()
  })
  void t.test(`the normalised form of ${text} means the same and is a fixed point`, (t) => {
    const normalised = formatNbdUri(parseNbdUri(text))
    t.same(parseNbdUri(normalised), expected)
    t.equal(formatNbdUri(parseNbdUri(normalised)), normalised)
    t.end()
  })
}

void t.test('credentials are parsed, and are no part of the normalised form', (t) => {
  for (const [text, expected, normalised] of [
    ['nbds://alice@h/x?tls-psk-file=/a%20b', { user: 'alice', pskFile: '/a b' }, 'nbds://h/x'],
    [
      'nbds+unix://al%40ice@/x?socket=/s&tls-certificates=/pki&tls-hostname=h',
      { user: 'al@ice', certificates: '/pki', hostname: 'h' },
      'nbds+unix:///x?socket=/s',
    ],
  ] as const) {
    const uri = parseNbdUri(text)
    t.same(uri.credentials, expected)
    t.equal(formatNbdUri(uri), normalised)
  }
  t.end()
})

function thrownFor(text: string): Error {
  try {
    return new Error(`parsed as ${JSON.stringify(parseNbdUri(text))}`)
  } catch (error) {
    return error as Error
  }
}

const INVALID = [
  ['/dev/sdb', /not of the form SCHEME/],
  ['nbd:unix:/run/s', /not of the form SCHEME/],
  ['http://example.com/x', /unknown scheme 'http'/],
  ['nbd+vsock://3/x', /unknown scheme 'nbd\+vsock'/],
  ['nbd:///disk', /host is missing/],
  ['nbd://:10809/disk', /host is missing/],
  ['nbd://::1/disk', /IPv6 address stands in brackets/],
  ['nbd://[nope]/disk', /'nope' is not an IPv6 address/],
  ['nbd://h:0/x', /port '0' is not a number from 1 to 65535/],
  ['nbd://h:65536/x', /port '65536'/],
  ['nbd://h:nbd/x', /port 'nbd'/],
  ['nbd://bob@h/x', /only with TLS/],
  ['nbd://h/%zz', /not percent-encoded UTF-8/],
  ['nbd://h/%ff', /not percent-encoded UTF-8/],
  ['nbd://h/a%00b', /export name contains a NUL/],
  [`nbd://h/${'x'.repeat(4097)}`, /longer than 4096 bytes/],
  ['nbd://h/x#y', /%23/],
  ['nbd://h/x?socket=/s', /parameter 'socket' has no meaning here/],
  ['nbd+unix:///x', /'socket' .* is missing/],
  ['nbd+unix:///x?socket=', /'socket' .* is missing/],
  ['nbd+unix:///x?sokket=/s', /parameter 'sokket' has no meaning/],
  ['nbd+unix:///x?socket=/s&socket=/t', /given twice/],
  ['nbd+unix:///x?socket=/s&tls-hostname=h', /'tls-hostname' has no meaning/],
  ['nbd+unix://run/x?socket=/s', /no host 'run'/],
  ['nbd+unix://alice@/x?socket=/s', /no host 'alice@'/],
  ['nbds+unix://alice@run/x?socket=/s', /no host 'run'/],
  ['nbd://h/x?tls-certificates=/pki', /'tls-certificates' has no meaning here/],
  ['nbds://h/x?tls-verify-peer=false', /'tls-verify-peer' has no meaning here/],
  ['nbds://h/x?tls-certificates=/pki&tls-psk-file=/keys', /exclude each other/],
  ['nbds://h/x?tls-psk-file=', /'tls-psk-file' is empty/],
  ['nbd+unix:///x?socket=%00abstract', /'socket' contains a NUL/],
  [`nbd+unix:///x?socket=/${'s'.repeat(107)}`, /longer than 107 bytes/],
] as const

for (const [text, problem] of INVALID) {
  void t.test(`refuses ${text.slice(0, 50)}`, (t) => {
    const error = thrownFor(text)
    t.type(error, NbdUriError)
    t.match(error.message, problem)
    t.ok(error.message.includes(`'${text}'`), 'quotes the URI')
    t.match(error.message, /a valid one is nbd:\/\/HOST/)
    t.end()
  })
}

void t.test('the normalised form leaves out the default port and is absolute', (t) => {
  t.equal(formatNbdUri(parseNbdUri('NBD://LOCALHOST:10809')), 'nbd://localhost/')
  t.equal(formatNbdUri(parseNbdUri('nbd+tcp://[0:0::1]:7/a%20b')), 'nbd://[::1]:7/a%20b')
  // The folder that the tests run in may have a space in its name.
  const path = encodeURIComponent(resolve('nbd.sock')).replaceAll('%2F', '/')
  t.equal(formatNbdUri(parseNbdUri('nbd+unix:///x?socket=nbd.sock')), `nbd+unix:///x?socket=${path}`)
  t.end()
})

void t.test('paths are not taken for NBD URIs', (t) => {
  for (const path of ['/dev/sdb', 'disk.img', './nbd', 'nbd', 'nbdisk:x', '']) t.equal(isNbdUri(path), false)
  t.end()
})
