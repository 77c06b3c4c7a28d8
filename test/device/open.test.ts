import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  linkSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { lockFile, lockUri } from '../../src/device/disk-lock.js'
import { openDisk } from '../../src/device/open.js'
import { silentLog } from '../../src/util/log.js'
import { MiB } from '../../src/util/units.js'
import { answer, readFrom } from '../support/rig.js'

const writable = { readOnly: false, log: silentLog }
const readOnly = { readOnly: true, log: silentLog }

function newImage(folder: string, name = 'disk.img', size = 4 * MiB): string {
  const path = join(folder, name)
  writeFileSync(path, '')
  truncateSync(path, size)
  return path
}

void t.test('what cannot be a disk is refused with a sentence that says why', async (t) => {
  const folder = t.testdir({ 'empty.img': '' })
  await t.rejects(openDisk(join(folder, 'none'), writable), /cannot open .*none: there is no such file or device/)
  await t.rejects(openDisk(join(folder, 'empty.img'), writable), {
    name: 'RefusedError',
    message: /is empty: create it/,
  })
  await t.rejects(openDisk(folder, writable), { name: 'RefusedError', message: /neither a file, nor a block device/ })
  await t.rejects(openDisk('/dev/null', writable), { name: 'RefusedError' })
})

void t.test('two names of one file are the same disk, two files are not', async (t) => {
  const folder = t.testdir({})
  const path = newImage(folder)
  linkSync(path, join(folder, 'link.img'))
  const first = await openDisk(path, readOnly)
  const second = await openDisk(join(folder, 'link.img'), readOnly)
  const other = await openDisk(newImage(folder, 'other.img'), readOnly)
  t.equal(first.sameness, second.sameness)
  t.equal(first.identity.id, second.identity.id)
  t.not(first.sameness, other.sameness)
  t.match(first.identity, { id: /^file:\d+$/, location: path })
  await Promise.all([first, second, other].map(({ device }) => device.close()))
})

void t.test('one writer, or any number of readers', async (t) => {
  const path = newImage(t.testdir({}))
  const writer = await openDisk(path, writable)
  await t.rejects(openDisk(path, writable), { name: 'RefusedError', message: /in use by another process/ })
  await t.rejects(openDisk(path, readOnly), { name: 'RefusedError' })
  await writer.device.close()
  const reader = await openDisk(path, readOnly)
  await (await openDisk(path, readOnly)).device.close()
  await t.rejects(openDisk(path, writable), { name: 'RefusedError' })
  t.ok(reader.device.readOnly)
  await reader.device.close()
  await (await openDisk(path, writable)).device.close()
})

void t.test('a process that is killed releases its lock', async (t) => {
  const path = newImage(t.testdir({}))
  const openModule = new URL('../../src/device/open.js', import.meta.url).href
  const program = `const { openDisk } = await import(${JSON.stringify(openModule)})
    await openDisk(process.argv[1], { readOnly: false, log: { debug() {}, info() {}, warn() {}, error() {} } })
    console.log('locked'); setInterval(() => {}, 1000)`
  const holder = spawn(process.execPath, ['--input-type=module', '-e', program, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(holder, 'exit')
  await once(holder.stdout, 'data')
  await t.rejects(openDisk(path, writable), { name: 'RefusedError' })
  holder.kill('SIGKILL')
  await ended
  await (await openDisk(path, writable)).device.close()
})

void t.test('a lock is held by the open file, not by the program that took it', (t) => {
  const path = newImage(t.testdir({}))
  const [first, second] = [openSync(path, 'r+'), openSync(path, 'r+')]
  lockFile(first, path, 'exclusive')
  t.throws(() => {
    lockFile(second, path, 'shared')
  }, /in use/)
  closeSync(first)
  lockFile(second, path, 'exclusive')
  closeSync(second)
  t.end()
})

void t.test('an upstream disk is locked by its URI', async (t) => {
  const uri = `nbd://test-${process.pid}.invalid/export`
  const unlock = await lockUri(uri)
  await t.rejects(lockUri(uri), { name: 'RefusedError', message: /in use/ })
  const unlockOther = await lockUri(`${uri}2`)
  await unlock()
  await (
    await lockUri(uri)
  )()
  await unlockOther()
})

const canLoop = process.getuid?.() === 0 && existsSync('/dev/loop-control')
const needsLoop: { skip?: string } = canLoop ? {} : { skip: 'needs root and loop devices' }

/** @returns the loop device, detached when the test ends; `undefined` where this machine gives none */
function attachLoop(t: { teardown: (action: () => void) => void }, path: string): string | undefined {
  const { status, stdout } = spawnSync('losetup', ['--find', '--show', path], { encoding: 'utf8' })
  const loop = stdout.trim()
  if (status !== 0 || loop === '') return undefined
  t.teardown(() => spawnSync('losetup', ['--detach', loop]))
  return loop
}

void t.test('a block device', needsLoop, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'nbd-remap-loop-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  const path = newImage(folder, 'behind.img', 8 * MiB)
  const loop = attachLoop(t, path)
  if (loop === undefined) {
    t.plan(0, 'no loop device to be had')
    return
  }
  const disk = await openDisk(loop, writable)
  const { device } = disk
  t.equal(device.size, 8 * MiB)
  t.match(disk.identity, { id: /^block:/, location: loop })
  t.equal(
    disk.sameness,
    `file:${statSync(path).dev}:${statSync(path).ino}`,
    'it is the same disk as the file behind it',
  )
  await t.rejects(openDisk(loop, writable), { name: 'RefusedError', message: /in use/ })
  await device.write(1000, [Buffer.alloc(3 * MiB, 7)], { fua: true })
  await device.write(4 * MiB, [Buffer.alloc(4 * MiB, 8)])
  await device.flush()
  t.same(await readFrom(device, 999, 2), Buffer.from([0, 7]))
  await device.writeZeroes(MiB, MiB)
  t.ok((await readFrom(device, MiB, MiB)).equals(Buffer.alloc(MiB)), 'zeroed by the device')
  await device.writeZeroes(4 * MiB + 100, MiB + 1)
  t.ok((await readFrom(device, 4 * MiB + 100, MiB + 1)).equals(Buffer.alloc(MiB + 1)), 'zeroed although not aligned')
  t.same(await readFrom(device, 4 * MiB + 99, 1), Buffer.from([8]))
  await device.trim(6 * MiB, 2 * MiB)
  t.same(await readFrom(device, 6 * MiB - 1, 1), Buffer.from([8]))
  await device.close()
  const again = await openDisk(loop, readOnly)
  t.same(await readFrom(again.device, 999, 2), Buffer.from([0, 7]))
  await t.rejects(
    answer(() => again.device.write(0, [Buffer.alloc(1)])),
    { code: 'EPERM' },
  )
  await again.device.close()
})

void t.test('a block device without a medium', needsLoop, async (t) => {
  const { stdout } = spawnSync('losetup', ['--find'], { encoding: 'utf8' })
  const free = stdout.trim()
  if (!existsSync(free)) {
    t.plan(0, 'no loop device to be had')
    return
  }
  await t.rejects(openDisk(free, writable), /is empty: there is no medium|in use/)
})
