/** Each way to attach a disk that README.md names is one that QEMU accepts, and the disk is there with its size. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { RemapServer } from '../../qemu/remap-server.js'
import { MiB } from '../../src/util/units.js'
import { Document, ROOT } from '../support/documents.js'
import { diskThatQemuSees } from '../support/qemu-sees.js'
import { socketDirectory } from '../support/upstream-servers.js'

const SIZE = 16 * MiB
const forms = new Document('README.md').blocks
  .filter(({ language }) => language === 'qemu')
  .flatMap(({ text }) => text.trim().split('\n'))

void t.test('QEMU takes the disk in each form', async (t) => {
  const directory = await socketDirectory(t)
  for (const name of ['main.img', 'spare.img']) await writeFile(join(directory, name), Buffer.alloc(SIZE))
  const server = await RemapServer.start({
    program: join(ROOT, 'dist/src/cli/main.js'),
    directory,
    main: join(directory, 'main.img'),
    spare: join(directory, 'spare.img'),
    args: ['--create'],
  })
  t.teardown(() => server.stop())
  t.equal(forms.length, 3)
  for (const form of forms) {
    const found = await diskThatQemuSees(directory, form.replaceAll('/run/disk.sock', server.socketPath))
    t.same(found, { name: server.uri, size: SIZE }, form)
  }
})
