import t from 'tap'
import { QmpProtocolError, QmpReplyError } from '../../src/qmp/error.js'
import {
  formatCommand,
  formatError,
  formatEvent,
  formatGreeting,
  formatReturn,
  parseCommand,
  parseRequest,
  parseServerMessage,
  timestamp,
} from '../../src/qmp/message.js'
import { GREETING } from '../support/qmp-server.js'

void t.test("QEMU's messages are understood", (t) => {
  t.same(parseServerMessage(GREETING), {
    kind: 'greeting',
    greeting: {
      version: { qemu: { major: 7, minor: 2, micro: 22 }, package: 'Debian' },
      capabilities: ['oob'],
    },
  })
  t.same(parseServerMessage('{"return": {}, "id": 3}'), { kind: 'return', id: 3, value: {} })
  t.same(
    parseServerMessage(
      '{"id": 1, "error": {"class": "CommandNotFound", "desc": "The command nope has not been found"}}',
    ),
    { kind: 'error', id: 1, errorClass: 'CommandNotFound', desc: 'The command nope has not been found' },
  )
  t.same(parseServerMessage('{"timestamp": {"seconds": 5, "microseconds": 7}, "event": "STOP", "data": {"a": 1}}'), {
    kind: 'event',
    event: { event: 'STOP', data: { a: 1 }, timestamp: { seconds: 5, microseconds: 7 } },
  })
  t.match(parseServerMessage('{"timestamp": {"seconds": 5, "microseconds": 7}, "event": "STOP"}'), {
    event: { data: {} },
  })
  t.end()
})

void t.test('what is formatted is parsed to the same', (t) => {
  const greeting = { version: { qemu: { major: 1, minor: 2, micro: 3 }, package: 'x' }, capabilities: [] }
  t.same(parseServerMessage(formatGreeting(greeting)), { kind: 'greeting', greeting })
  const event = { event: 'X', data: { a: [1] }, timestamp: timestamp(1234567890123.5) }
  t.same(event.timestamp, { seconds: 1234567890, microseconds: 123500 })
  t.same(parseServerMessage(formatEvent(event)), { kind: 'event', event })
  t.same(parseServerMessage(formatReturn([1], 'id')), { kind: 'return', id: 'id', value: [1] })
  t.same(parseServerMessage(formatReturn(undefined, undefined)), { kind: 'return', id: undefined, value: {} })
  t.same(parseServerMessage(formatError(new QmpReplyError('no'), null)), {
    kind: 'error',
    id: null,
    errorClass: 'GenericError',
    desc: 'no',
  })
  t.same(parseCommand(parseRequest(formatCommand('execute', 'stop', { a: 1 }, 4))), {
    name: 'stop',
    arguments: { a: 1 },
    id: 4,
  })
  for (const text of [formatGreeting(greeting), formatEvent(event), formatReturn(1, 1)]) t.match(text, /[^\n]\r\n$/)
  t.end()
})

void t.test('what is no message of a server is refused', (t) => {
  for (const text of [
    'x',
    '[]',
    '5',
    'null',
    '{}',
    '{"error": 5}',
    '{"event": 5}',
    '{"QMP": 5}',
    '{"QMP": {}}',
    'x'.repeat(999),
  ]) {
    t.throws(() => parseServerMessage(text), QmpProtocolError, text)
  }
  t.end()
})

void t.test('wrong commands are refused in the words of QEMU 7.2', (t) => {
  const refusals: [string, string | RegExp][] = [
    ['nonsense', /^JSON parse error, /],
    ['{"a":1,}', /^JSON parse error, /],
    ['[1]', 'QMP input must be a JSON object'],
    ['"x"', 'QMP input must be a JSON object'],
    ['{}', "QMP input lacks member 'execute'"],
    ['{"execute": 1}', "QMP input member 'execute' must be a string"],
    ['{"execut": "x"}', "QMP input member 'execut' is unexpected"],
    ['{"execute": "x", "bogus": 1}', "QMP input member 'bogus' is unexpected"],
    ['{"exec-oob": "x"}', "QMP input member 'exec-oob' is unexpected"],
    ['{"execute": "x", "arguments": []}', "QMP input member 'arguments' must be an object"],
  ]
  for (const [text, desc] of refusals) {
    t.throws(() => parseCommand(parseRequest(text)), { name: 'QmpReplyError', desc, errorClass: 'GenericError' }, text)
  }
  t.end()
})
