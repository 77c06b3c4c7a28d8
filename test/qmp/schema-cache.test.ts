import { mkdir, readdir, readFile, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import path from 'node:path'
import t, { type Test } from 'tap'
import {
  EventQueue,
  loadSchema,
  QmpCommandError,
  SCHEMAS_CACHED_MAX,
  schemaCacheDirectory,
  type QmpPeer,
} from '../../src/qmp/index.js'
import { qemuMonitor, storageDaemonMonitor } from '../support/qemu-monitor.js'

const SCHEMA = [
  { name: '0', 'meta-type': 'object', members: [] },
  { name: 'stop', 'meta-type': 'command', 'arg-type': '0', 'ret-type': '0' },
]

/** A server that has these commands, and counts how often its schema is asked for. */
function server({ name = 'Debian', commands = ['stop'], isBare = false } = {}): QmpPeer & { asked: number } {
  return {
    asked: 0,
    greeting: { version: { qemu: { major: 7, minor: 2, micro: 22 }, package: name }, capabilities: [] },
    events: () => new EventQueue(() => true, () => undefined), // prettier-ignore
    execute(command) {
      if (command === 'query-commands' && isBare) {
        return Promise.reject(new QmpCommandError(command, 'CommandNotFound', 'not found'))
      }
      if (command === 'query-commands') return Promise.resolve(commands.map((name) => ({ name })))
      this.asked++
      return Promise.resolve(SCHEMA)
    },
  }
}

const onlyFile = async (directory: string): Promise<string> => {
  const [name, ...more] = await readdir(directory)
  if (name === undefined || more.length > 0) throw new Error(`not one file: ${String([name, ...more])}`)
  return path.join(directory, name)
}

const cacheOf = (t: Test): string => path.join(t.testdir({}), 'a', 'b')

void t.test('a schema is asked for once per version and list of commands', async (t) => {
  const directory = cacheOf(t)
  const servers = [server(), server({ name: 'other' }), server({ commands: ['stop', 'cont'] })]
  for (const each of [...servers, ...servers]) {
    const schema = await loadSchema(each, { directory })
    t.ok(schema.commands.has('stop'))
  }
  t.same(
    servers.map(({ asked }) => asked),
    [1, 1, 1],
  )
  t.equal((await readdir(directory)).length, 3)
  const file = path.join(directory, (await readdir(directory))[0] ?? '')
  t.equal((await stat(file)).mode & 0o777, 0o600)
  t.equal((await stat(directory)).mode & 0o777, 0o700)
})

void t.test('a file that is damaged in any way is asked for again, and repaired', async (t) => {
  const directory = cacheOf(t)
  await loadSchema(server(), { directory })
  const file = await onlyFile(directory)
  const whole = await readFile(file, 'utf8')
  const damages: (() => Promise<void>)[] = [
    () => truncate(file, 100),
    () => truncate(file, 0),
    () => writeFile(file, whole.replace('stop', 'stoq')),
    () => writeFile(file, 'no checksum'),
    () => writeFile(file, Buffer.alloc(20 * 1024 * 1024)),
  ]
  for (const damage of damages) {
    await damage()
    const peer = server()
    t.ok((await loadSchema(peer, { directory })).commands.has('stop'))
    t.equal(peer.asked, 1)
    t.equal(await readFile(file, 'utf8'), whole)
  }
})

void t.test('many at once leave one whole file', async (t) => {
  const directory = cacheOf(t)
  await Promise.all(Array.from({ length: 20 }, () => loadSchema(server(), { directory })))
  await onlyFile(directory)
  const peer = server()
  await loadSchema(peer, { directory })
  t.equal(peer.asked, 0)
})

void t.test('a folder that cannot be written is no obstacle', async (t) => {
  const directory = path.join(t.testdir({ file: '' }), 'file')
  t.ok((await loadSchema(server(), { directory })).commands.has('stop'))
})

void t.test('the oldest schemas go', async (t) => {
  const directory = cacheOf(t)
  await mkdir(directory, { recursive: true })
  for (let index = 0; index < SCHEMAS_CACHED_MAX; index++) {
    await writeFile(path.join(directory, `old${index}`), '')
    await utimes(path.join(directory, `old${index}`), index, index)
  }
  await loadSchema(server(), { directory })
  const names = await readdir(directory)
  t.equal(names.length, SCHEMAS_CACHED_MAX)
  t.notOk(names.includes('old0'))
  t.ok(names.includes('old1'))
})

void t.test('a server without query-commands, and nbd-remap itself', async (t) => {
  const directory = cacheOf(t)
  const bare = server({ isBare: true })
  t.ok((await loadSchema(bare, { directory })).commands.has('stop'))
  const own = server({ name: 'nbd-remap 0.1.0' })
  await loadSchema(own, { directory })
  await loadSchema(own, { directory })
  t.equal(own.asked, 2)
  t.equal((await readdir(directory)).length, 1)
  await loadSchema(bare, { directory: undefined })
  t.equal(bare.asked, 2)
})

void t.test('QEMU and its storage daemon, of one version, are told apart', async (t) => {
  const directory = cacheOf(t)
  await using machine = await qemuMonitor(t)
  await using daemon = await storageDaemonMonitor(t)
  for (let round = 0; round < 2; round++) {
    t.ok((await loadSchema(machine, { directory })).commands.has('device_add'))
    t.notOk((await loadSchema(daemon, { directory })).commands.has('device_add'))
  }
  t.equal((await readdir(directory)).length, 2)
})

void t.test('where the cache is', (t) => {
  t.equal(schemaCacheDirectory({ XDG_CACHE_HOME: '/x', HOME: '/h' }), '/x/nbd-remap/qmp-schema')
  t.equal(schemaCacheDirectory({ XDG_CACHE_HOME: 'x', HOME: '/h' }), '/h/.cache/nbd-remap/qmp-schema')
  t.equal(schemaCacheDirectory({ HOME: '/h' }), '/h/.cache/nbd-remap/qmp-schema')
  t.end()
})
