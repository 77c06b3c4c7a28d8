import t from 'tap'
import { formatRawError, formatRawReply } from '../../src/qmp/message.js'
import { QmpReplyError } from '../../src/qmp/index.js'
import { rawMembers } from '../../src/qmp/raw-members.js'

void t.test('the members of an object, as the text that they are', (t) => {
  const cases: [string, Record<string, string>][] = [
    ['{}', {}],
    [' { } ', {}],
    ['{"a":1}', { a: '1' }],
    ['{"a": 18446744073709551615, "b" : -0.0e+5}', { a: '18446744073709551615', b: '-0.0e+5' }],
    ['{"a": {"b": [1, {"c": "}"}]}, "d": "x,\\"}"}', { a: '{"b": [1, {"c": "}"}]}', d: '"x,\\"}"' }],
    ['{"a\\"b": 1, "c\\\\": 2, "\\u0064": 3}', { 'a"b': '1', 'c\\': '2', d: '3' }],
    ['{"a": 1, "a": 2}', { a: '2' }],
    ['{\n\t"a" :\n null ,\r\n"b":true}', { a: 'null', b: 'true' }],
  ]
  for (const [text, members] of cases) {
    t.same(Object.fromEntries(rawMembers(text)), members)
    t.same(Object.keys(JSON.parse(text) as object), Object.keys(members), 'as JSON.parse has it')
  }
  t.end()
})

void t.test('a reply gets the id of the client, whatever JSON that is', (t) => {
  t.equal(
    formatRawReply('{"return": 9007199254740993, "id": 7}\r\n', '{"x": [1]}'),
    '{"return": 9007199254740993, "id": {"x": [1]}}\r\n',
  )
  t.equal(formatRawReply('{"id": 7, "return": {}}', undefined), '{"return": {}}\r\n')
  t.same(JSON.parse(formatRawError(new QmpReplyError('no'), 'null')), {
    error: { class: 'GenericError', desc: 'no' },
    id: null,
  })
  t.end()
})
