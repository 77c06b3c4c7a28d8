/** Jobs of the storage daemon, which starts in no time and has the same block layer. */

import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import t, { type Test } from 'tap'
import { QmpClient, QmpCommandError, QmpConnectionError, QmpJob, QmpJobError, runJob } from '../../src/qmp/index.js'
import { storageDaemonMonitor } from '../support/qemu-monitor.js'

const SIZE = 16 * 1024 * 1024

/** A daemon with the nodes `source` and `target` over files of those names. */
async function daemon(t: Test): Promise<{ client: QmpClient; source: string; target: string }> {
  const directory = t.testdir({})
  const [source, target] = ['source', 'target'].map((name) => path.join(directory, name)) as [string, string]
  await writeFile(source, randomBytes(SIZE))
  await writeFile(target, Buffer.alloc(SIZE))
  const client = await storageDaemonMonitor(
    t,
    '--blockdev',
    `driver=file,node-name=source,filename=${source}`,
    '--blockdev',
    `driver=file,node-name=target,filename=${target}`,
  )
  t.teardown(() => client.close())
  return { client, source, target }
}

const COPY = { device: 'source', target: 'target', sync: 'full' }
/** Takes for ever, and can be ended at any time. */
const SLOW = { ...COPY, speed: 1024 * 1024 }

const noJobs = async (t: Test, client: QmpClient): Promise<void> => {
  t.same(await client.execute('query-jobs'), [])
}

void t.test('backup runs to its end', async (t) => {
  const { client, source, target } = await daemon(t)
  const seen: string[] = []
  const onStatus = (status: string): void => void seen.push(status)
  await runJob(client, 'blockdev-backup', COPY, { onStatus })
  t.ok((await readFile(target)).equals(await readFile(source)))
  t.same([...new Set(seen)].slice(-3), ['waiting', 'pending', 'concluded'])
  await noJobs(t, client)
})

void t.test('mirror catches up, then is completed or left', async (t) => {
  for (const whenReady of ['complete', 'detach'] as const) {
    const { client, source, target } = await daemon(t)
    await runJob(client, 'blockdev-mirror', COPY, { whenReady })
    t.ok((await readFile(target)).equals(await readFile(source)))
    await noJobs(t, client)
  }
})

void t.test('a mirror that is ready stays so until it is told', async (t) => {
  const { client } = await daemon(t)
  await using job = await QmpJob.start(client, 'blockdev-mirror', COPY)
  await job.ready()
  t.equal(job.status, 'ready')
  t.same(await job.progress(), { current: SIZE, total: SIZE })
  await job.complete()
  await noJobs(t, client)
})

void t.test('a job that fails says why, in the words of QEMU', async (t) => {
  const { client } = await daemon(t)
  await client.execute('blockdev-add', {
    driver: 'blkdebug',
    'node-name': 'bad',
    image: 'source',
    'inject-error': [{ event: 'none', sector: 100, errno: 5, iotype: 'read' }],
  })
  const job = runJob(client, 'blockdev-backup', { 'job-id': 'b', device: 'bad', target: 'target', sync: 'full' })
  await t.rejects(job, new QmpJobError('blockdev-backup', 'b', 'Input/output error'))
  await noJobs(t, client)
})

void t.test('a job that cannot start is a command that failed', async (t) => {
  const { client } = await daemon(t)
  await t.rejects(
    runJob(client, 'blockdev-backup', { device: 'nope', target: 'target', sync: 'full' }),
    QmpCommandError,
  )
  await noJobs(t, client)
})

void t.test('a signal cancels the job', async (t) => {
  const { client } = await daemon(t)
  const abort = new AbortController()
  const reason = new Error('enough')
  const progress = new Promise<void>((resolve) => {
    const options = {
      signal: abort.signal,
      progressIntervalMs: 1,
      onProgress: ({ total }: { total: number }): void => {
        if (total === SIZE) resolve()
      },
    }
    const job = runJob(client, 'blockdev-backup', SLOW, options)
    void t.rejects(job, { name: 'QmpJobError', desc: 'cancelled', cause: reason })
  })
  await progress
  abort.abort(reason)
  using queue = client.events('JOB_STATUS_CHANGE')
  for (let status: unknown; status !== 'null'; status = (await queue.next()).data['status']);
  await noJobs(t, client)
  const late = runJob(client, 'blockdev-backup', COPY, {
    signal: abort.signal,
  }) // prettier-ignore
  await t.rejects(late, { name: 'QmpJobError', desc: 'cancelled before it began', cause: reason })
})

void t.test('a scope that ends takes its job with it', async (t) => {
  const { client } = await daemon(t)
  {
    await using job = await QmpJob.start(client, 'blockdev-mirror', SLOW)
    t.not(job.status, 'concluded')
  }
  await noJobs(t, client)
})

void t.test('a server that dies is told as such', async (t) => {
  const { client } = await daemon(t)
  const job = await QmpJob.start(client, 'blockdev-mirror', SLOW)
  await client.execute('quit')
  await t.rejects(job.finished(), QmpConnectionError)
})

void t.test('a job of a command that has no auto-dismiss', async (t) => {
  const { client } = await daemon(t)
  const job = await QmpJob.start(client, 'blockdev-create', {
    options: { driver: 'file', filename: path.join(t.testdir({}), 'new'), size: SIZE },
  })
  await job.finished()
  await noJobs(t, client)
})
