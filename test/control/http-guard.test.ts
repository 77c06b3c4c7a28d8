import t from 'tap'
import { isHostAllowed, isOriginAllowed, isToken, tokenOf } from '../../src/control/http-guard.js'

void t.test('a host is an address, localhost, or a name that was given', (t) => {
  for (const host of ['127.0.0.1:9180', '10.1.2.3', '[::1]:80', 'localhost', 'LOCALHOST:1', 'nas.example:9180']) {
    t.ok(isHostAllowed(host, ['nas.example']), host)
  }
  for (const host of [
    undefined,
    '',
    'evil.example',
    'nas.example.evil.example',
    'localhost.evil.example',
    'a b',
    '127.0.0.1.nip.io',
    '[evil]',
    'user@localhost',
  ]) {
    t.notOk(isHostAllowed(host, ['nas.example']), String(host))
  }
  t.end()
})

void t.test('an origin is none, or that of this server', (t) => {
  t.ok(isOriginAllowed(undefined, 'localhost:9180'))
  t.ok(isOriginAllowed('http://localhost:9180', 'localhost:9180'))
  t.ok(isOriginAllowed('https://nas.example', 'nas.example'))
  for (const origin of ['null', 'http://localhost', 'http://localhost:9181', 'http://evil.example', 'file://', '']) {
    t.notOk(isOriginAllowed(origin, 'localhost:9180'), origin)
  }
  t.end()
})

void t.test('the token comes in a header, or among the subprotocols', (t) => {
  t.equal(tokenOf({ authorization: 'Bearer abc' }), 'abc')
  t.equal(tokenOf({ authorization: 'bearer   abc' }), 'abc')
  t.equal(tokenOf({ 'sec-websocket-protocol': 'qmp, bearer.abc' }), 'abc')
  t.equal(tokenOf({ authorization: 'Basic abc' }), undefined)
  t.equal(tokenOf({ 'sec-websocket-protocol': 'qmp' }), undefined)
  t.equal(tokenOf({}), undefined)
  t.ok(isToken('abc', 'abc'))
  for (const given of [undefined, '', 'ab', 'abcd', 'abd']) t.notOk(isToken(given, 'abc'), String(given))
  t.end()
})
