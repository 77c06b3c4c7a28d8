/** `add`, `remove`, `clear`, `table`, and lists of remaps in and out, on a running server. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { cli, fails, MANY_PROCESSES_TIMEOUT_MS, newPair, pattern, Serve, type PairFiles } from '../support/cli.js'
import { run } from '../support/tools.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

interface Subject {
  readonly pair: PairFiles
  readonly server: Serve
  readonly control: readonly string[]
  readonly says: (...args: string[]) => Promise<string>
  readonly remaps: () => Promise<number[][]>
  readonly list: (content: string) => string
}

async function start(t: Test, ...args: string[]): Promise<Subject> {
  const pair = newPair(t)
  const server = await Serve.start(t, pair, ['--create', ...args])
  const control = ['--control', server.controlPath]
  const says = async (...command: string[]): Promise<string> => {
    const { code, stdout, stderr } = await cli(t, ...command, ...control)
    t.same([code, stderr], [0, ''], command.join(' '))
    return stdout
  }
  const remaps = async (): Promise<number[][]> => {
    const { remaps } = JSON.parse(await says('remaps', '--json')) as { remaps: Record<string, number>[] }
    return remaps.map((range) => [range['main-sector'] ?? -1, range['spare-sector'] ?? -1, range['sectors'] ?? -1])
  }
  const list = (content: string): string => {
    const path = join(pair.folder, 'list')
    writeFileSync(path, content)
    return path
  }
  return { pair, server, control, says, remaps, list }
}

void t.test('sectors are remapped and moved back by hand', async (t) => {
  const { server, control, says, remaps } = await start(t)
  t.equal(await says('add', '80', 'auto', '16'), '2 blocks remapped\n')
  t.equal(await says('add', '800', '1600', '8', '--json'), '{"blocks":1,"skipped":0}\n')
  t.same(await remaps(), [
    [80, 0, 16],
    [800, 1600, 8],
  ])
  t.same(await server.read(0, 1 << 20), pattern(4 << 20).subarray(0, 1 << 20))
  await fails(t, 1, /main sector 80 is remapped already/, ['add', '72', 'auto', '16', ...control])
  await fails(t, 1, /spare sector 1600 is in use/, ['add', '0', '1600', '8', ...control])
  await fails(t, 1, /leave the main disk, which has 8192 sectors/, ['add', '8192', 'auto', '8', ...control])
  await fails(t, 2, /argument 'sectors'/, ['add', '0', 'auto', '0', ...control])
  await fails(t, 2, /argument 'main-sector'/, ['add', '1.5', 'auto', '8', ...control])
  await fails(t, 2, /argument 'spare-sector'/, ['add', '0', 'here', '8', ...control])
  await fails(t, 2, /give MAIN_SECTOR, SPARE_SECTOR .* and SECTORS, or --from/, ['add', '0', 'auto', ...control])
  t.equal(await says('remove', '80', '8'), '1 blocks moved back\n')
  await fails(t, 1, /main sector 80 is not remapped/, ['remove', '80', '16', ...control])
  t.equal(await says('clear', '--json'), '{"blocks":2,"kept":0}\n')
  t.same(await remaps(), [])
})

void t.test('lists are remapped all or not at all, from a file or from standard input', async (t) => {
  const { server, pair, control, says, remaps, list } = await start(t)
  const own = list('# bad\n80 auto 8\n400 800 16\n404 lost 2\n')
  t.equal(await says('add', '--from', own), '3 blocks remapped\n')
  t.same(await remaps(), [
    [80, 0, 8],
    [400, 800, 8],
    [408, 808, 8],
  ])
  await t.rejects(server.read(404 * 512, 512), /NBD_EIO/)
  await fails(t, 1, /list, line 2: main sector 80 is remapped already$/, [
    ...['add', '--from', list('0 auto 8\n80 auto 8\n'), ...control],
  ])
  await fails(t, 1, /list, line 3: number of sectors "many" is not a whole number$/, [
    ...['add', '--from', list('0 auto 8\n\n80 auto many\n'), ...control],
  ])
  await fails(t, 1, /there is nothing to do/, ['add', '--from', list('# nothing\n'), ...control])
  await fails(t, 1, /nothing: there is no such file$/, ['add', '--from', join(pair.folder, 'nothing'), ...control])
  t.equal(
    await says('add', '--from', list('0 auto 8\n80 auto 8\n'), '--skip-remapped'),
    '1 blocks remapped, 1 left as they were\n',
  )
  t.equal((await remaps()).length, 4)

  const exported = await says('remaps', '--format', 'own')
  t.match(exported, /^80 0 8$/m)
  t.match(exported, /^404 lost 2$/m)
  await fails(t, 1, /main sector 400: some of its sectors are lost/, ['remove', '--from', list(exported), ...control])
  const { code, stderr } = await cli(t, 'clear', ...control)
  t.same(
    [code, stderr],
    [1, 'nbd-remap: 1 blocks stay remapped: the main disk does not take them, or they have lost sectors\n'],
  )
  const client = await server.connect()
  await client.write(404 * 512, [pattern(1024)])
  await client.disconnect()
  t.equal(await says('clear'), '1 blocks moved back\n')

  const script = `printf '10\\n11\\n40\\n' | "$@"`
  const program = [
    'bash',
    process.execPath,
    join(process.cwd(), 'dist/src/cli/main.js'),
    'add',
    '--from',
    '-',
    ...control,
  ]
  const piped = await run('bash', '-c', script, ...program)
  t.same([piped.status, piped.stdout, piped.stderr], [0, '2 blocks remapped\n', ''])
  t.same(
    (await remaps()).map(([main]) => main),
    [16, 80],
  )
  t.equal(await says('remaps', '--format', 'badblocks', '--unit', '4096'), '2\n10\n')
  t.match(await says('remaps', '--format', 'ddrescue'), /^0x00002000 {2}0x00001000 {2}-$/m)
})

void t.test('the gaps of a rescued image answer EIO until they are written', async (t) => {
  const { server, says, list } = await start(t)
  const map = '0x0 + 1\n0x00000000 0x00001200 +\n0x00001200 0x00000400 -\n0x00001600 0x003FEA00 +\n'
  t.equal(await says('add', '--from', list(map), '--lost'), '1 blocks remapped\n')
  t.same(await server.read(4096, 512), pattern(8192).subarray(4096, 4608))
  await t.rejects(server.read(0x1200, 512), /NBD_EIO/)
  const client = await server.connect()
  await client.write(0x1200, [pattern(1024, 5)])
  await client.disconnect()
  t.same(await server.read(0x1200, 1024), pattern(1024, 5))
})

void t.test(
  'the table grows and shrinks as it is told, with an event and the lines that dm-remap prints',
  async (t) => {
    const { server, says, control } = await start(t, '--table-grow-load', '120')
    t.match(await says('table'), /^buckets +64$/m)
    await says('add', '0', 'auto', '624')
    t.match(JSON.parse(await says('table', '--json')), { remaps: 78, buckets: 128, load: 60, 'grow-load': 120 })
    await server.until(
      () => server.stderr.includes('Adaptive hash table resize: 64 -> 128 buckets (count=77)'),
      'it grew',
    )
    await server.until(() => server.stderr.includes('Hash table resize complete: 64 -> 128 buckets'), 'it has grown')
    t.match(await says('table', '--min-buckets', '1024'), /^buckets +1024$/m)
    await says('clear')
    t.match(JSON.parse(await says('table', '--min-buckets', '16', '--json')), { buckets: 16, remaps: 0 })
    await fails(t, 1, /must be at most half of the load to grow at/, ['table', '--shrink-load', '100', ...control])
    await fails(t, 2, /must be a power of two/, [
      ...['serve', '--main', 'a', '--spare', 'b', '--table-min-buckets', '100'],
    ])
  },
)
