/** Each way to attach a disk that README.md names is one that QEMU accepts, and the disk is there with its size. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { DaemonProcess } from '../../qemu/index.js'
import { QmpListener } from '../../qemu/qmp-listener.js'
import { READY_TIMEOUT_MS } from '../../qemu/process.js'
import { RemapServer } from '../../qemu/remap-server.js'
import { MiB } from '../../src/util/units.js'
import { Document, ROOT } from '../support/documents.js'
import { socketDirectory } from '../support/upstream-servers.js'

const SIZE = 16 * MiB
const forms = new Document('README.md').blocks
  .filter(({ language }) => language === 'qemu')
  .flatMap(({ text }) => text.trim().split('\n'))

interface BlockInfo {
  readonly inserted?: { readonly image: { readonly 'virtual-size': number; readonly filename: string } }
}

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
    const listener = await QmpListener.open(join(directory, 'qemu.qmp'))
    const disk = form.replaceAll('/run/disk.sock', server.socketPath).split(' ')
    const machine = ['-nodefaults', '-no-user-config', '-display', 'none', '-S', '-M', 'pc', '-m', '64M']
    const monitor = ['-chardev', `socket,id=qmp,path=${listener.path}`, '-mon', 'chardev=qmp,mode=control']
    const qemu = await DaemonProcess.start({ program: 'qemu-system-x86_64', args: [...machine, ...disk, ...monitor] })
    try {
      const qmp = await listener.client(qemu, READY_TIMEOUT_MS)
      const [found] = (await qmp.execute('query-block')) as BlockInfo[]
      t.match(found?.inserted?.image, { 'virtual-size': SIZE, filename: server.uri }, form)
      await qmp.close()
    } finally {
      await qemu.close()
      listener.close()
    }
  }
})
