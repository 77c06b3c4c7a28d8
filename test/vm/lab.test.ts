/** nbd-remap/lab as others use it: the packed package in a project of its own, by the example of its document. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { lab } from '../../qemu/index.js'
import { processesIn } from '../../qemu/scenario/run.js'
import { packageRoot } from '../../src/cli/package-version.js'

// A guest boots in each; on a busy machine that may take minutes.
t.setTimeout(600_000)

const ROOT = packageRoot()

async function scratchProject(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nbd-project-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const pack = spawnSync('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], {
    cwd: ROOT,
    encoding: 'utf8',
  })
  t.equal(pack.status, 0, pack.stderr)
  const modules = join(folder, 'node_modules')
  mkdirSync(join(modules, 'nbd-remap'), { recursive: true })
  const tarball = join(folder, pack.stdout.trim().split('\n').at(-1) ?? '')
  spawnSync('tar', ['-xzf', tarball, '-C', join(modules, 'nbd-remap'), '--strip-components=1'])
  // Its dependencies, which a package manager would install.
  symlinkSync(join(ROOT, 'node_modules'), join(modules, 'nbd-remap', 'node_modules'))
  for (const name of ['@types', 'undici-types']) symlinkSync(join(ROOT, 'node_modules', name), join(modules, name))
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
  return folder
}

function example(): string {
  const [, code = ''] = /```js\n([^]*?)```/.exec(readFileSync(join(ROOT, 'docs/LAB.md'), 'utf8')) ?? []
  return code
}

void t.test(
  'the example of docs/LAB.md passes under node:test and fits the types, in a project that has the package',
  async (t) => {
    const folder = await scratchProject(t)
    writeFileSync(join(folder, 'disk.test.js'), example())
    writeFileSync(join(folder, 'typed.ts'), example())
    const options = [
      '--module',
      'nodenext',
      '--target',
      'es2023',
      '--strict',
      '--skipLibCheck',
      '--noEmit',
      '--types',
      'node',
    ]
    const typed = spawnSync(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), ...options, 'typed.ts'], {
      cwd: folder,
      encoding: 'utf8',
    })
    t.equal(typed.status, 0, typed.stdout)
    const temporary = join(folder, 'tmp')
    mkdirSync(temporary)
    const env = {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      NBD_REMAP_CACHE: process.env['NBD_REMAP_CACHE'],
      TMPDIR: temporary,
    }
    const run = spawnSync(process.execPath, ['--test', 'disk.test.js'], { cwd: folder, env, encoding: 'utf8' })
    t.equal(run.status, 0, run.stdout + run.stderr)
    t.match(run.stdout, /pass 1/)
    t.same(readdirSync(temporary), [])
    t.same(processesIn(temporary), [])
  },
)

void t.test('a power cut: what was synced is there, and the workload goes on where it was', async (t) => {
  await using stage = await lab({
    disks: { main: { size: '64M' }, spare: { size: '32M' } },
    server: { main: 'main', spares: ['spare'] },
  })
  await stage.guest.check('mkfs.ext4 -q -F -b 4096 /dev/vda && mount -t ext4 /dev/vda /mnt')
  const workload = { name: 'files', kind: 'files', size: '16K' } as const
  stage.startWorkload(workload)
  stage.startWorkload({ name: 'pulse', kind: 'blocks', target: '/mnt/pulse', keep: 8 })
  await stage.until({ workload: { name: 'files', expect: { writes: { atLeast: 5 } } } })
  await stage.powerCut('guest', 'server')
  t.match(stage.workload('files'), { running: false, broken: /gone|killed/ })
  const before = stage.workload('files').writes.length
  await t.rejects(stage.guestCommand('true'), /the guest of machine 'guest' does not run/)
  await stage.start('server', 'guest')
  await stage.guest.check('mount -t ext4 /dev/vda /mnt')
  t.match(await stage.checkNow('checksums'), { ok: true }, 'before anything is written again')
  stage.startWorkload(workload)
  await stage.until({ workload: { name: 'files', expect: { writes: { atLeast: before + 3 } } } })
  await t.rejects(
    stage.guestCommand({ run: 'cat /nothing', stderr: /nothing/ }),
    /ended with status 1 instead of 0: .*nothing/,
  )
  await stage.check()
  t.ok(stage.workload('files').longestGap(stage.timeline.now()) < stage.timeline.now())
})
