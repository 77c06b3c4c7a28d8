import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { TlsError, readCertificates, readPreSharedKeys, tlsReason } from '../../src/nbd/tls.js'

void t.test('pre-shared keys are read as psktool writes them', async (t) => {
  const path = join(t.testdir(), 'keys.psk')
  await writeFile(path, '# comment\nalice:00ff10\r\n\nbob with spaces:ABCDEF\n')
  t.same(
    [...readPreSharedKeys(path)],
    [
      ['alice', Buffer.from('00ff10', 'hex')],
      ['bob with spaces', Buffer.from('abcdef', 'hex')],
    ],
  )
})

const BAD_LINES = ['alice', 'alice:', ':00', 'alice:0', 'alice:xy', 'alice:00:11', `alice:${'00'.repeat(257)}`]

void t.test('a line that is no key is refused by its number, without telling the key', async (t) => {
  const path = join(t.testdir(), 'keys.psk')
  for (const line of BAD_LINES) {
    await writeFile(path, `bob:5ec8e7\n${line}\n`)
    t.throws(
      () => readPreSharedKeys(path),
      new TlsError(`line 2 of ${path} is not NAME:KEY with a key of up to 256 bytes in hex`),
    )
  }
  await writeFile(path, 'bob:5ec8e7\nbob:5ec8e7\n')
  t.throws(() => readPreSharedKeys(path), new TlsError(`line 2 of ${path} names 'bob' again`))
  await writeFile(path, '# nothing\n')
  t.throws(() => readPreSharedKeys(path), new TlsError(`there is no key in ${path}`))
})

void t.test('a folder gives what is there, and no certificate without its key', async (t) => {
  const folder = t.testdir({ 'ca-cert.pem': 'CA', 'client-cert.pem': 'CERT' })
  t.throws(() => readCertificates(folder, 'client'), new TlsError(`client-key.pem is missing in ${folder}`))
  t.same(readCertificates(folder, 'server'), {
    ca: Buffer.from('CA'),
    crl: undefined,
    cert: undefined,
    key: undefined,
  })
  await writeFile(join(folder, 'client-key.pem'), 'KEY')
  t.match(readCertificates(folder, 'client'), { cert: Buffer.from('CERT'), key: Buffer.from('KEY') })
  t.throws(() => readCertificates(join(folder, 'none'), 'client'), /none is no directory with TLS certificates$/)
})

void t.test('what cannot be read is told in one sentence', async (t) => {
  const folder = t.testdir()
  await mkdir(join(folder, 'ca-cert.pem'))
  t.throws(() => readCertificates(folder, 'client'), /ca-cert.pem is no file of keys or certificates$/)
  const locked = join(folder, 'keys.psk')
  await writeFile(locked, 'alice:00\n')
  await chmod(locked, 0)
  if (process.getuid?.() === 0) t.equal(readPreSharedKeys(locked).size, 1, 'root may read everything')
  else t.throws(() => readPreSharedKeys(locked), new TlsError(`cannot read ${locked}: permission denied`))
})

void t.test('failures are put in words', (t) => {
  const error = Object.assign(new Error('long'), { code: 'ERR_SSL_SOMETHING_NEW', reason: 'something new' })
  t.equal(tlsReason(error, 'the client'), 'something new', "OpenSSL's own words for what is not known here")
  t.equal(tlsReason('CERT_HAS_EXPIRED', 'the client'), "the client's certificate has expired")
  t.equal(
    tlsReason(Object.assign(new Error('x'), { code: 'ERR_SSL_WRONG_VERSION_NUMBER' }), 'the server'),
    'the server does not speak TLS',
  )
  t.equal(tlsReason(new Error('plain'), 'the server'), 'plain')
  t.end()
})
