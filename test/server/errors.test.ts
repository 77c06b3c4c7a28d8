import t from 'tap'
import { DeviceError, type DeviceErrorCode } from '../../src/device/device.js'
import { wireError } from '../../src/server/errors.js'

void t.test('device errors become errors of the protocol, and never ESHUTDOWN', (t) => {
  const expected: Record<DeviceErrorCode, number> = {
    EPERM: 1,
    EIO: 5,
    ENOMEM: 12,
    EINVAL: 22,
    ENOSPC: 28,
    EOVERFLOW: 75,
    ENOTSUP: 95,
    ESHUTDOWN: 5,
    ENODEV: 5,
    ETIMEDOUT: 5,
  }
  for (const [code, error] of Object.entries(expected)) {
    t.equal(wireError(new DeviceError(code as DeviceErrorCode, 'disk', 'read', 0, 512)), error, code)
  }
  t.end()
})

void t.test('anything else is an I/O error', (t) => {
  t.equal(wireError(new TypeError('a bug')), 5)
  t.equal(wireError('a string'), 5)
  t.end()
})
