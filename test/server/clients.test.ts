import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { DeviceError } from '../../src/device/device.js'
import { MiB } from '../../src/util/units.js'
import { MemoryDevice } from '../support/memory-device.js'
import { serve, temporaryDirectory, type Served } from '../support/nbd-server.js'
import { Random } from '../../src/util/random.js'
import { nbdsh, run, runOk } from '../support/tools.js'

interface Transport {
  readonly name: string
  readonly listen: (t: Test, size?: number) => Promise<Served & { uri: string }>
}

const unix: Transport = {
  name: 'unix',
  listen: async (t, size) => {
    const served = await serve(t, {}, size)
    return { ...served, uri: `nbd+unix:///main?socket=${served.path}` }
  },
}

const tcp: Transport = {
  name: 'TCP',
  listen: async (t, size) => {
    const served = await serve(t, {}, size)
    const address = await served.server.listen({ host: '127.0.0.1', port: 0 })
    return { ...served, uri: `nbd://127.0.0.1:${'port' in address ? address.port : 0}/main` }
  },
}

for (const { name, listen } of [unix, tcp]) {
  void t.test(`nbdinfo sees the export over ${name}`, async (t) => {
    const { uri } = await listen(t)
    const { protocol, structured, exports } = JSON.parse(await runOk('nbdinfo', '--json', uri)) as {
      protocol: string
      structured: boolean
      exports: Record<string, unknown>[]
    }
    t.equal(protocol, 'newstyle-fixed')
    t.equal(structured, true)
    t.match(exports, [
      {
        'export-name': 'main',
        description: 'the disk',
        'export-size': MiB,
        is_read_only: false,
        can_df: true,
        can_fast_zero: true,
        can_flush: true,
        can_fua: true,
        can_multi_conn: true,
        can_trim: true,
        can_zero: true,
        can_cache: true,
        block_size_minimum: 1,
        block_size_preferred: 4096,
        block_size_maximum: 64 * MiB,
      },
    ])
    t.match(await runOk('nbdinfo', '--list', uri), /export="main"/)
    t.equal((await runOk('nbdinfo', '--size', uri)).trim(), String(MiB))
  })

  void t.test(`qemu-img and qemu-io over ${name}`, async (t) => {
    const { uri, device } = await listen(t, 64 * MiB)
    const info = JSON.parse(await runOk('qemu-img', 'info', '--output=json', uri)) as Record<string, unknown>
    t.match(info, { format: 'raw', 'virtual-size': 64 * MiB })
    const commands = ['write -P 0x41 1 511', 'read -P 0x41 1 511', 'write -P 0x42 1M 32M', 'read -P 0x42 1M 32M']
    commands.push(
      'aio_write -P 0x43 40M 1M',
      'aio_write -P 0x44 41M 1M',
      'aio_flush',
      'write -z 2M 1M',
      'read -P 0 2M 1M',
    )
    commands.push('discard 50M 4M', 'flush', 'read -P 0x43 40M 1M', 'read -P 0x44 41M 1M', 'write -f -P 0x45 0 4k')
    const output = await runOk('qemu-io', '-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri)
    t.notMatch(output, /Pattern verification failed/)
    t.equal(device.data[2 * MiB], 0)
    t.equal(device.data[3 * MiB], 0x42)
    t.ok(device.calls.some(({ operation, options }) => operation === 'write' && options?.fua === true))
    t.ok(device.calls.some(({ operation }) => operation === 'trim'))
  })

  void t.test(`nbdcopy there and back again over ${name}`, async (t) => {
    const { uri } = await listen(t, 16 * MiB)
    const directory = await temporaryDirectory(t)
    const [before, after] = [join(directory, 'before'), join(directory, 'after')]
    const random = new Random(1)
    const pattern = random.bytes(MiB + 17)
    await writeFile(before, Buffer.alloc(16 * MiB, pattern))
    await runOk('nbdcopy', '--flush', before, uri)
    await runOk('nbdcopy', '--connections=4', uri, after)
    await runOk('cmp', before, after)
    await runOk('nbdcopy', '--request-size=33554432', uri, after)
    t.ok((await readFile(before)).equals(await readFile(after)))
  })

  void t.test(`fio verifies what it wrote over ${name}`, async (t) => {
    const { uri, device } = await listen(t, 32 * MiB)
    const job = [
      '--name=verify',
      '--ioengine=nbd',
      `--uri=${uri}`,
      '--size=32M',
      '--randseed=1',
      '--output-format=json',
    ]
    job.push('--rw=randwrite', '--bsrange=512-128k', '--iodepth=32', '--verify=crc32c', '--fsync=100')
    // State files of fio go to its working directory otherwise.
    job.push('--verify_state_save=0')
    const { jobs } = JSON.parse((await runOk('fio', ...job)).replace(/^[^{]*/, '')) as {
      jobs: { error: number; read: { total_ios: number }; write: { total_ios: number } }[]
    }
    t.equal(jobs[0]?.error, 0)
    t.ok((jobs[0]?.read.total_ios ?? 0) > 0 && jobs[0]?.read.total_ios === jobs[0]?.write.total_ios)
    t.ok(device.calls.some(({ operation }) => operation === 'flush'))
  })
}

void t.test('nbdsh: every flag that is advertised works', async (t) => {
  const { uri, device } = await unix.listen(t)
  const program = `
h.pwrite(b'x' * 512, 0, nbd.CMD_FLAG_FUA)
h.zero(512, 512, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.trim(512, 1024, nbd.CMD_FLAG_FUA)
h.cache(4096, 0)
h.flush()
assert h.pread(512, 0) == b'x' * 512
assert bytes(h.pread_structured(512, 0, lambda *a: None, nbd.CMD_FLAG_DF)) == b'x' * 512
h.shutdown()`
  await nbdsh(uri, program)
  t.same(
    device.calls.map(({ operation, options }) => [operation, options]),
    [
      ['write', { fua: true }],
      ['write-zeroes', { fua: true, noHole: true }],
      ['trim', { fua: true }],
      ['flush', undefined],
      ['read', undefined],
      ['read', undefined],
    ],
  )
})

const CHECK_ERRORS = `
import errno
h.set_strict_mode(0)
def fails(code, call, *args):
    try:
        call(*args)
    except nbd.Error as error:
        assert error.errnum == code, (call.__name__, args, error)
    else:
        raise AssertionError((call.__name__, args, 'succeeded'))
    assert h.aio_is_ready(), 'disconnected'
`

void t.test('nbdsh: what cannot be done is refused and the connection lives', async (t) => {
  const { uri } = await unix.listen(t)
  for (const structured of ['True', 'False']) {
    const program = `${CHECK_ERRORS}
M = 1024 * 1024
fails(errno.EINVAL, h.pread, 512, M)
fails(errno.EINVAL, h.pread, 512, M - 511)
fails(errno.ENOSPC, h.pwrite, b'x' * 512, M - 511)
fails(errno.ENOSPC, h.zero, 512, M)
fails(errno.EINVAL, h.trim, 512, M)
fails(errno.EINVAL, h.cache, 512, M)
fails(errno.EINVAL, h.pwrite, b'x' * 512, 0, nbd.CMD_FLAG_DF)
fails(errno.EINVAL, h.trim, 512, 0, nbd.CMD_FLAG_FAST_ZERO)
fails(errno.EINVAL, h.trim, 512, 0, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(512, 0) == bytes(512)
h.shutdown()`
    t.equal(await nbdsh(uri, program, `h.set_request_structured_replies(${structured})`), '')
  }
})

void t.test('nbdsh: an error of the device reaches the client, once', async (t) => {
  const { uri, device } = await unix.listen(t)
  device.before = ({ operation, offset, length }) => {
    if (offset === 4096) throw new DeviceError('EIO', 'disk', operation, offset, length)
  }
  const program = `${CHECK_ERRORS}
fails(errno.EIO, h.pread, 512, 4096)
fails(errno.EIO, h.pwrite, b'x' * 512, 4096)
fails(errno.EIO, h.zero, 512, 4096)
errors = []
def chunk(data, offset, status, error):
    errors.append((offset, status))
fails(errno.EIO, h.pread_structured, 512, 4096, chunk)
assert errors == [(4096, nbd.READ_ERROR)], errors
h.pread(512, 0)
h.shutdown()`
  t.equal(await nbdsh(uri, program), '')
})

void t.test('nbdsh: a read-only export', async (t) => {
  const device = new MemoryDevice(MiB)
  const { path } = await serve(t, { exports: [{ name: 'ro', description: '', device, readOnly: true }] })
  const program = `${CHECK_ERRORS}
assert h.is_read_only()
fails(errno.EPERM, h.pwrite, b'x' * 512, 0)
fails(errno.EPERM, h.zero, 512, 0)
fails(errno.EPERM, h.trim, 512, 0)
h.flush()
h.shutdown()`
  t.equal(await nbdsh(`nbd+unix:///?socket=${path}`, program), '')
})

void t.test('nbdsh: clients that know only EXPORT_NAME', async (t) => {
  const { uri } = await unix.listen(t)
  for (const flags of ['0', 'nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE', 'nbd.HANDSHAKE_FLAG_MASK']) {
    const program = `
assert h.get_size() == 1024 * 1024
assert h.pread(512, 0) == bytes(512)
h.shutdown()`
    t.equal(await nbdsh(uri, program, `h.set_handshake_flags(${flags})`), '')
  }
})

void t.test('an unknown export is named in the message of the client', async (t) => {
  const { path } = await serve(t)
  const { status, stderr } = await run('qemu-img', 'info', `nbd+unix:///nothing?socket=${path}`)
  t.not(status, 0)
  t.match(stderr, 'there is no export "nothing" here')
})
