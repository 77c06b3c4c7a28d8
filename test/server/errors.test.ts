import t from 'tap'
import { DeviceError, type DeviceErrorCode } from '../../src/device/device.js'
import { NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_READ, NBD_CMD_WRITE_ZEROES } from '../../src/nbd/protocol.js'
import { wireError } from '../../src/server/errors.js'

const READ = { type: NBD_CMD_READ, flags: 0 }

void t.test('device errors become errors of the protocol, and never ESHUTDOWN, ENOMEM or EOVERFLOW', (t) => {
  const expected: Record<DeviceErrorCode, number> = {
    EPERM: 1,
    EIO: 5,
    ENOMEM: 5,
    EINVAL: 22,
    ENOSPC: 28,
    EOVERFLOW: 5,
    ENOTSUP: 5,
    ESHUTDOWN: 5,
    ENODEV: 5,
    ETIMEDOUT: 5,
  }
  for (const [code, error] of Object.entries(expected)) {
    t.equal(wireError(new DeviceError(code as DeviceErrorCode, 'disk', 'read', 0, 512), READ), error, code)
  }
  t.end()
})

void t.test('anything else is an I/O error', (t) => {
  t.equal(wireError(new TypeError('a bug'), READ), 5)
  t.equal(wireError('a string', READ), 5)
  t.end()
})

void t.test('ENOTSUP is the answer to zeros that were to be fast, and to nothing else', (t) => {
  const refused = new DeviceError('ENOTSUP', 'disk', 'write-zeroes', 0, 512)
  t.equal(wireError(refused, { type: NBD_CMD_WRITE_ZEROES, flags: NBD_CMD_FLAG_FAST_ZERO }), 95)
  t.equal(wireError(refused, { type: NBD_CMD_WRITE_ZEROES, flags: 0 }), 5)
  t.end()
})
