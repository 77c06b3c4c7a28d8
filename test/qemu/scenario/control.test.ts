/** What the control run plays on. */
import t from 'tap'
import { controlSetup, overlaid } from '../../../qemu/scenario/control.js'
import { ScenarioFile } from '../../../qemu/scenario/document.js'

const scenario = (control: string) =>
  ScenarioFile.parse(
    `title: x
disks: { main: { size: 1M, via: storage-daemon }, spare: { size: 1M }, replica: { size: 1M } }
server: { main: main, spares: [spare], replica: replica, options: { slow-read: 1 } }
machines: { guest: { drives: [{ disk: server, reconnect-delay: 5s }] } }
steps: [{ guest: a }]
control: { title: y, expect: [writes], ${control} }
`,
    'x.yaml',
  ).scenario

void t.test('without the server, its clients get its main disk, under the same node name', (t) => {
  const { setup } = controlSetup(scenario('without: server'))
  t.same(Object.keys(setup.servers ?? {}), [])
  t.match(setup.machines, { guest: { drives: [{ disk: 'main', node: 'server', reconnectDelay: 5000 }] } })
  t.end()
})

void t.test('a change is laid over: null takes away, names of settings are spelled as in the file', (t) => {
  const change =
    'change: { server: { replica: null, options: { slow-read: 2 } }, machines: { guest: { drives: [{ disk: server, reconnect-delay: 1s }] } } }'
  const { setup } = controlSetup(scenario(change))
  const { server } = setup.servers ?? {}
  t.equal(server?.replica, undefined)
  t.same(server?.options, { 'slow-read': 2 })
  t.equal(server?.main, 'main', 'the rest is as it was')
  t.match(setup.machines, { guest: { drives: [{ reconnectDelay: 1000 }] } })
  t.end()
})

void t.test('overlaid merges mappings and replaces everything else', (t) => {
  t.same(overlaid({ a: { b: 1, c: [1, 2] }, d: 1 }, { a: { c: [3], e: 5 }, d: null }), { a: { b: 1, c: [3], e: 5 } })
  t.end()
})
