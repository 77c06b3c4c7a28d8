import t from 'tap'
import { describeSource, isExportOf, sourceOf } from '../../../qemu/attach/source.js'
import { parseNbdUri } from '../../../src/nbd/uri.js'

void t.test('files, devices and exports, in all the ways in which QEMU spells them', (t) => {
  const same: [driver: string, file: string, described: string][] = [
    ['file', '/srv/disk.img', '/srv/disk.img'],
    ['raw', 'disk.img', 'disk.img'],
    ['host_device', '/dev/sdb', '/dev/sdb'],
    ['raw', '/srv/a:b.img', '/srv/a:b.img'],
    ['nbd', 'nbd+unix:///foo?socket=/run/a.sock', 'nbd+unix:///foo?socket=/run/a.sock'],
    ['raw', 'nbd+unix://?socket=/run/a.sock', 'nbd+unix:///?socket=/run/a.sock'],
    ['nbd', 'nbd://localhost:10810/foo', 'nbd://localhost:10810/foo'],
    ['raw', 'json:{"driver":"raw","file":{"driver":"file","filename":"/srv/a.img"}}', '/srv/a.img'],
    [
      'nbd',
      'json:{"driver":"nbd","server":{"type":"unix","path":"/run/a.sock"},"export":"x","reconnect-delay":5}',
      'nbd+unix:///x?socket=/run/a.sock',
    ],
    [
      'raw',
      'json:{"driver":"raw","file":{"server.host":"h","server.port":"10809","server.type":"inet","driver":"nbd"}}',
      'nbd://h/',
    ],
  ]
  for (const [driver, file, described] of same) t.equal(describeSource(sourceOf(driver, file)), described, file)
  t.end()
})

void t.test('what is not the plain bytes of one file or export is something else', (t) => {
  for (const [driver, file] of [
    ['qcow2', '/srv/disk.qcow2'],
    ['throttle', 'disk.img'],
    ['raw', 'json:{"driver":"raw","offset":512,"file":{"driver":"file","filename":"/srv/a.img"}}'],
    ['raw', 'json:{"driver":"raw","file":{"driver":"blkdebug","image":{"driver":"file","filename":"a"}}}'],
    ['raw', 'https://example.org/disk.img'],
    ['raw', 'json:{"driver":'],
    ['nbd', 'nbd+unix:///foo'],
    ['quorum', 'json:{}'],
    ['nbd', 'json:{"driver":"nbd","server":{"type":"vsock"}}'],
  ] as const) {
    t.equal(sourceOf(driver, file).kind, 'other', file)
  }
  t.end()
})

void t.test('an export is the same by its name and as the default one', (t) => {
  const server = parseNbdUri('nbd+unix:///disk?socket=/run/a.sock')
  t.equal(isExportOf(parseNbdUri('nbd+unix:///?socket=/run/a.sock'), server), true)
  t.equal(isExportOf(parseNbdUri('nbd+unix:///disk?socket=/run/a.sock'), server), true)
  t.equal(isExportOf(parseNbdUri('nbd+unix:///other?socket=/run/a.sock'), server), false)
  t.equal(isExportOf(parseNbdUri('nbd+unix:///disk?socket=/run/b.sock'), server), false)
  t.end()
})
