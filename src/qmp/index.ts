/** QMP, both roles: a client for QEMU, qemu-storage-daemon and nbd-remap, and the monitor that nbd-remap serves. */

export {
  CONNECT_TIMEOUT_MS,
  EXECUTE_TIMEOUT_MS,
  QmpClient,
  type ConnectOptions,
  type ExecuteOptions,
} from './client.js'
export {
  QmpCommandError,
  QmpConnectionError,
  QmpError,
  QmpProtocolError,
  QmpReplyError,
  QmpTimeoutError,
  type QmpErrorClass,
} from './error.js'
export { EventQueue, QUEUED_EVENTS_MAX, type EventFilter, type NextOptions } from './events.js'
export {
  EVENTS_DROPPED,
  type JsonObject,
  type QmpEvent,
  type QmpGreeting,
  type QmpTimestamp,
  type QmpVersion,
} from './message.js'
export { formatAddress, openSocket, type OpenOptions, type QmpAddress } from './transport.js'
