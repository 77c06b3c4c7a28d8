/** Files with metadata: written as documented, and never believed when anything in them is not as it was written. */
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  decodeFileHead,
  encodeFileHead,
  encodeRangeHead,
  MetadataFile,
  writeMetadataFile,
  type FileRange,
} from '../../src/spare/metadata-file.js'
import { newFolder } from '../support/cli.js'
import { seededRandom } from '../support/random.js'
import { SAMPLE_UUID } from '../support/samples.js'

const HEAD = { kind: 'backup', uuid: SAMPLE_UUID, spareSize: 0x123456789a, headerSequence: 7 } as const
const RANGES: readonly FileRange[] = [
  { offset: 4096, length: 5, bytes: Buffer.from('hello') },
  { offset: 2 ** 40, length: 4096 },
]

const written = async (path: string): Promise<Buffer> => {
  await writeMetadataFile(path, { ...HEAD, contents: RANGES })
  return readFileSync(path)
}

async function contentsOf(path: string): Promise<FileRange[]> {
  const file = await MetadataFile.open(path)
  const ranges: FileRange[] = []
  for await (const range of file.ranges()) ranges.push(range)
  await file.close()
  return ranges
}

void t.test('a head and a range, byte by byte', (t) => {
  const head = { ...HEAD, ranges: 2, length: 117 }
  const hex = encodeFileHead(head).toString('hex')
  t.equal(
    hex,
    '4e4244524d455441' + // NBDRMETA
      hex.slice(16, 24) + // CRC
      '01000200' + // version 1, a backup
      '00112233445566778899aabbccddeeff' +
      '9a78563412000000' +
      '0700000000000000' +
      '0200000000000000' +
      '7500000000000000',
  )
  t.same(decodeFileHead(encodeFileHead(head)), head)
  t.equal(encodeRangeHead(RANGES[1]!, 3).subarray(0, 20).toString('hex'), '0000000000010000001000000300000001000000')
  t.end()
})

void t.test('what was written is read again, and a file is never overwritten', async (t) => {
  const path = join(newFolder(t), 'file')
  await written(path)
  t.same(await contentsOf(path), RANGES)
  await t.rejects(writeMetadataFile(path, { ...HEAD, contents: [] }), {
    name: 'MetadataFileError',
    message: /file cannot be written: there is such a file already/,
  })
  t.same(await contentsOf(path), RANGES)
  await t.rejects(MetadataFile.open(`${path}.not`), { message: /file.not cannot be used: there is no such file/ })
})

void t.test('a file that is cut off while it is written is none', async (t) => {
  const path = join(newFolder(t), 'file')
  const contents = (function* () {
    yield RANGES[0]!
    throw new Error('the disk is gone')
  })()
  await t.rejects(writeMetadataFile(path, { ...HEAD, contents }), { message: 'the disk is gone' })
  t.ok(existsSync(path))
  await t.rejects(MetadataFile.open(path), { message: /no file with metadata of nbd-remap/ })
})

void t.test('no byte of it can be another one, or missing, or too many', async (t) => {
  const path = join(newFolder(t), 'file')
  const right = await written(path)
  const random = seededRandom(t)
  for (let at = 0; at < right.length; at++) {
    const wrong = Buffer.from(right)
    wrong[at]! ^= 1 << random.below(8)
    writeFileSync(path, wrong)
    await t.rejects(MetadataFile.open(path), { name: 'MetadataFileError' }, `byte ${at}`)
  }
  for (let length = 0; length < right.length; length += 3) {
    writeFileSync(path, right)
    truncateSync(path, length)
    await t.rejects(MetadataFile.open(path), { name: 'MetadataFileError' }, `${length} bytes`)
  }
  writeFileSync(path, Buffer.concat([right, Buffer.of(0)]))
  await t.rejects(MetadataFile.open(path), { message: /118 bytes, and should have 117/ })
})

void t.test('a newer version is named, and a checksum does not make sense of nonsense', async (t) => {
  const path = join(newFolder(t), 'file')
  const right = await written(path)
  const random = seededRandom(t)
  for (let round = 0; round < 300; round++) {
    const wrong = Buffer.from(right)
    const from = random.below(wrong.length)
    random.bytes(random.between(1, 40)).copy(wrong, from)
    writeFileSync(path, wrong)
    const outcome = await contentsOf(path).catch((error: unknown) => error as Error)
    if (Array.isArray(outcome)) t.same(outcome, RANGES)
    else t.equal(outcome.name, 'MetadataFileError')
  }
})
