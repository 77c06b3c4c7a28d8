/** The domains of examples/libvirt: libvirt takes them, and QEMU what one of them hands on to it. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { MANY_PROCESSES_TIMEOUT_MS, newFolder, newPair, Serve } from '../support/cli.js'
import { ROOT } from '../support/documents.js'
import { requireTool, run, runOk } from '../support/tools.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

const FOLDER = join(ROOT, 'examples/libvirt')
const domain = (name: string): string => readFileSync(join(FOLDER, name), 'utf8')

/** What libvirt of Debian 12 has no schema for. */
const withoutReconnect = (xml: string): string => xml.replace(/^ *<reconnect delay='\d+'\/>\n/m, '')

void t.test('the schema of libvirt has the domains', async (t) => {
  for (const tool of ['virt-xml-validate', 'xmllint', 'virsh']) requireTool(tool)
  const folder = newFolder(t)
  for (const name of readdirSync(FOLDER)) {
    const path = join(folder, name)
    writeFileSync(path, withoutReconnect(domain(name)))
    const { status, stdout, stderr } = await run('virt-xml-validate', path, 'domain')
    t.equal(status, 0, status === 0 ? 'done' : stdout + stderr)
    // The driver for tests is in the library: no daemon runs.
    writeFileSync(path, domain(name).replace("<domain type='kvm'", "<domain type='test'"))
    const defined = await runOk('virsh', '-c', 'test:///default', `define ${path}; dumpxml guest`)
    t.match(defined, /Domain 'guest' defined/)
    if (name === 'domain.xml') t.match(defined, /<host transport='unix' socket='\/run\/nbd-remap\/disk.sock'\/>/)
  }
})

void t.test('QEMU takes the arguments that libvirt hands on', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', '--name', 'disk'])
  const args = [...domain('domain-qemu-arguments.xml').matchAll(/<qemu:arg value='([^']*)'\/>/g)].map(([, arg = '']) =>
    arg.replace('/run/nbd-remap/disk.sock', server.socketPath),
  )
  t.ok(args.includes('-blockdev') && args.includes('-device'))
  const machine = [
    'qemu-system-x86_64',
    '-machine',
    'q35,accel=tcg',
    '-nodefaults',
    '-display',
    'none',
    '-S',
    '-qmp',
    'stdio',
  ]
  const commands = ['qmp_capabilities', 'query-named-block-nodes', 'quit'].map((execute) => JSON.stringify({ execute }))
  const script = `printf '%s\\n' '${commands.join("' '")}' | "$@"`
  const { status, stdout, stderr } = await run('sh', '-c', script, 'sh', ...machine, ...args)
  t.equal(status, 0, status === 0 ? 'done' : stdout + stderr)
  t.match(stdout, /"node-name": "remap0"/)
  t.match(args.join(' '), /reconnect-delay=60/)
})
