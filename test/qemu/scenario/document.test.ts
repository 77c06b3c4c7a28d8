/** What is wrong with a scenario file is told with its place, all of it at once, and what is right is read with its defaults. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ScenarioFile, ScenarioFileError } from '../../../qemu/scenario/document.js'

const STAGE = `title: A title
disks:
  main: { size: 128M, via: storage-daemon }
  spare: { size: 64M }
server: { main: main, spares: [spare] }
`
const lines = (...text: readonly string[]): string => `${STAGE}${text.join('\n')}\n`

function problems(text: string, given = {}): string[] {
  try {
    ScenarioFile.parse(text, 'my.yaml', given)
  } catch (error) {
    if (error instanceof ScenarioFileError) return error.message.split('\n')
    throw error
  }
  return []
}

/** @param wanted one for each problem, in their order */
function refuses(t: Test, name: string, text: string, ...wanted: readonly RegExp[]): void {
  const found = problems(text)
  t.equal(found.length, wanted.length, `${name}: ${found.join(' // ')}`)
  for (const [n, pattern] of wanted.entries()) t.match(found[n], pattern, name)
}

void t.test('a whole scenario is read, with its defaults', (t) => {
  const file = ScenarioFile.parse(
    lines('steps:', '  - guest: sync', '  - name: bad', '    fault: { on: main, clusters: 2, operations: [write] }'),
    'folder/my-name.yaml',
  )
  t.equal(file.name, 'my-name')
  t.match(file.scenario, {
    timeout: 300_000,
    disks: { main: { size: 128 * 1024 * 1024, via: 'storage-daemon' }, spare: { via: 'file' } },
    server: { main: 'main', supervise: true, options: {} },
    steps: [
      { verb: 'guest', value: { run: 'sync', status: 0, within: 60_000 } },
      { verb: 'fault', name: 'bad', value: { on: 'main', rule: { clusters: 2, operations: ['write'] } } },
    ],
  })
  t.equal(file.where(file.scenario.steps[1]!.path), 'folder/my-name.yaml:8:5')
  t.end()
})

void t.test('what is wrong is told with file, line and column', (t) => {
  refuses(t, 'broken YAML', `${STAGE}steps: [`, /^my\.yaml:6:9: Flow sequence/)
  refuses(t, 'twice', `${STAGE}title: x\nsteps: [{ guest: a }]\n`, /^my\.yaml:6:1: Map keys must be unique/)
  refuses(
    t,
    'unknown keys',
    lines('stpes: []', 'steps:', '  - gest: a'),
    /^my\.yaml:6:1: there is no 'stpes' here \(did you mean steps\?\); known are name, title/,
    /^my\.yaml:8:5: there is no 'gest' here/,
  )
  refuses(
    t,
    'missing',
    'disks: { a: { size: 1M } }\nsteps: [{ guest: a }]\n',
    /^my\.yaml:1:1: the scenario 'title' is missing/,
  )
  refuses(
    t,
    'size',
    lines('steps: [{ guest: a }]').replace('64M', '64MB'),
    /^my\.yaml:4:18: disks\.spare\.size must be a size such as 128M or 64K, not the text '64MB'/,
  )
  refuses(
    t,
    'two verbs',
    lines('steps:', '  - { guest: a, finish: b }'),
    /^my\.yaml:7:5: steps\.1 must do one thing, not guest and finish/,
  )
  refuses(
    t,
    'no unit',
    lines('steps:', '  - moment: 5'),
    /^my\.yaml:7:13: steps\.1\.moment must be a duration such as 500ms/,
  )
  refuses(
    t,
    'pattern',
    lines('steps:', '  - guest: { run: a, stdout: "(" }'),
    /^my\.yaml:7:30: steps\.1\.guest\.stdout .*Unterminated group/,
  )
  refuses(t, 'null', lines('steps:', '  - guest:'), /^my\.yaml:7:5: .*'guest' has no value/)
  refuses(t, 'camel', lines('steps:', '  - powerCut: server'), /^my\.yaml:7:5: there is no 'powerCut' here/)
  t.end()
})

void t.test('faults are checked as everywhere else', (t) => {
  const step = (fault: string): string => lines('steps:', `  - fault: ${fault}`)
  refuses(t, 'member', step('{ on: main, sectos: 5 }'), /^my\.yaml:7:24: .*sectos/)
  refuses(
    t,
    'beyond blkdebug',
    step('{ on: main, effect: hang }'),
    /the effect 'hang', which blkdebug beneath the disk 'main' cannot do: put it on a server/,
  )
  refuses(t, 'a file', step('{ on: spare, sector: 5 }'), /^my\.yaml:7:18: .*give it 'via: storage-daemon'/)
  refuses(
    t,
    'nobody',
    step('{ on: mian, sector: 5 }'),
    /names 'mian', and there is no such disk or server; there are main, spare, server/,
  )
  const hang = step('{ on: server, effect: hang }')
  refuses(t, 'no fault device', hang, /^my\.yaml:7:18: .*is a server without faults: .*fault-injection: true/)
  t.same(problems(hang.replace('spares: [spare]', 'spares: [spare], options: { fault-injection: true }')), [])
  t.end()
})

void t.test('orders that are impossible, and names that nobody has', (t) => {
  const steps = (...all: readonly string[]): string => lines('steps:', ...all.map((step) => `  - ${step}`))
  refuses(t, 'finish', steps('finish: w'), /^my\.yaml:7:13: .*ends the workload 'w', which no step before has started/)
  refuses(
    t,
    'twice',
    steps('workload: { name: w, kind: files }', 'workload: { name: w, kind: files }'),
    /^my\.yaml:8:23: .*started already/,
  )
  refuses(t, 'join', steps('join: b'), /waits for 'b', and no step before went to the background/)
  refuses(t, 'kill', steps('kill: spare'), /names the disk 'spare', which has no process/)
  refuses(
    t,
    'machine',
    steps('guest: { run: a, in: other }'),
    /^my\.yaml:7:26: .*'other', and there is no such machine; there are guest/,
  )
  refuses(
    t,
    'qmp',
    steps('qmp: { to: sever, execute: x }'),
    /'sever', and there is no such server, machine or storage daemon; there are server, guest, main/,
  )
  refuses(
    t,
    'alignment',
    steps('workload: { name: w, kind: blocks, at: 3 }'),
    /begins at sector 3, which is not a multiple of its size/,
  )
  refuses(
    t,
    'while-writing',
    steps('kill: { what: guest, while-writing: true }'),
    /^my\.yaml:7:\d+: .*goes with servers, and 'guest' is none/,
  )
  refuses(t, 'constructor', steps('kill: constructor'), /no such server/)
  refuses(
    t,
    'image',
    lines('steps: [{ guest: a }]').replace('size: 64M', 'image: no.img'),
    /^my\.yaml:4:19: disks\.spare\.image is 'no.img', and there is no file/,
  )
  refuses(
    t,
    'spare',
    lines('steps: [{ guest: a }]').replace('[spare]', '[spar]'),
    /^my\.yaml:5:32: server\.spares\.1 names 'spar', and there is no such disk/,
  )
  refuses(t, 'cont', steps('cont: server'), /was not stopped by a step before/)
  t.end()
})

void t.test('control and measure name what there is', (t) => {
  const end = (...text: readonly string[]): string => lines('steps: [{ guest: a }]', ...text)
  refuses(
    t,
    'without',
    end('control: { title: x, without: sever, expect: [writes] }'),
    /^my\.yaml:7:31: control\.without names 'sever'/,
  )
  refuses(
    t,
    'expect',
    end('control: { title: x, without: server, expect: [wirtes] }'),
    /no such check, measurement or named step; there are kernel-log, writes/,
  )
  refuses(t, 'nothing', end('control: { title: x, expect: [writes] }'), /takes nothing away/)
  refuses(
    t,
    'change',
    end('control: { title: x, change: { server: { supervize: false } }, expect: [writes] }'),
    /^my\.yaml:7:.*there is no 'supervize' here/,
  )
  refuses(t, 'measure', end('measure: { gap: { of: w, value: longest-gap } }'), /no such workload; there are none/)
  t.end()
})

void t.test('parameters are put in, and --set changes those that there are', (t) => {
  const text = lines(
    'parameters: { time: 5s, times: 3 }',
    'steps:',
    '  - repeat: { times: "{{times}}", steps: [{ moment: "{{time}}" }] }',
    '  - note: "for {{time}} {{seed}}"',
  )
  const steps = (given = {}) => ScenarioFile.parse(text, 'my.yaml', given).scenario.steps
  t.match(steps(), [{ value: { times: 3, steps: [{ value: 5000 }] } }, { value: 'for 5s {{seed}}' }])
  t.match(steps({ time: '1m', times: 7 }), [{ value: { times: 7, steps: [{ value: 60_000 }] } }])
  t.same(problems(text, { tiem: 1 }), ["my.yaml: there is no parameter 'tiem'; there are time, times"])
  t.end()
})

void t.test('a server stands by for one that there is, and that has sockets of its own', (t) => {
  const standby = (of: string): string =>
    lines(
      'servers:',
      '  one: { main: main, spares: [spare], standby-of: server }',
      `  two: { main: main, spares: [spare], standby-of: ${of} }`,
      'steps: [{ guest: sync }]',
    )
  t.same(problems(standby('server')), [])
  refuses(t, 'nobody', standby('sever'), /servers\.two\.standby-of names 'sever', and there is no such server/)
  refuses(t, 'another', standby('one'), /servers\.two\.standby-of names 'one', which stands by itself/)
  t.end()
})

void t.test('files that cannot be read', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'nbd-remap-scenario-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  t.throws(() => ScenarioFile.read(join(folder, 'no.yaml')), /no\.yaml cannot be read: there is no such file$/)
  writeFileSync(join(folder, 'bomb.yaml'), `a: &a [x, x, x]\nb: &b [${'*a,'.repeat(30)}]\nc: [${'*b,'.repeat(30)}]\n`)
  t.throws(() => ScenarioFile.read(join(folder, 'bomb.yaml')), ScenarioFileError)
  writeFileSync(join(folder, 'list.yaml'), '- a\n')
  t.throws(
    () => ScenarioFile.read(join(folder, 'list.yaml')),
    /list\.yaml:1:1: the scenario must be a mapping, not a list/,
  )
  t.end()
})
