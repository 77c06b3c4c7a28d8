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
  QmpDisconnectedError,
  QmpError,
  QmpJobError,
  QmpProtocolError,
  QmpReplyError,
  QmpTimeoutError,
  type QmpErrorClass,
} from './error.js'
export { QmpJob, runJob, type JobOptions, type JobProgress, type JobStatus, type RunJobOptions } from './job.js'
export type { QmpPeer } from './peer.js'
export { EventQueue, QUEUED_EVENTS_MAX, type EventFilter, type NextOptions } from './events.js'
export {
  CONNECTION_LOST,
  CONNECTION_RESTORED,
  EVENTS_DROPPED,
  type JsonObject,
  type QmpEvent,
  type QmpGreeting,
  type QmpTimestamp,
  type QmpVersion,
} from './message.js'
export {
  formatAddress,
  openSocket,
  parseAddress,
  type OpenOptions,
  type QmpAddress,
  type SocketAddress,
  type WebSocketAddress,
} from './transport.js'
export {
  membersOf,
  objectIn,
  QmpSchema,
  typeAt,
  typeText,
  wordsOf,
  type AlternateType,
  type ArrayType,
  type BuiltinType,
  type EnumType,
  type ObjectType,
  type SchemaCommand,
  type SchemaEvent,
  type SchemaMember,
  type SchemaType,
} from './schema-model.js'
export { ReconnectingQmpClient, type ReconnectOptions } from './reconnecting-client.js'
export { BACK_OFF, type BackOff } from './back-off.js'
export type { QemuCommands } from './qemu-types.js'
export { qemu, type CommandTypes, type TypedPeer } from './typed.js'
export { Recording, type Direction } from './share/recording.js'
export { QmpShare, SHARE_LIMITS, type ShareLimits, type ShareOptions } from './share/share.js'
export { loadSchema, schemaCacheDirectory, SCHEMAS_CACHED_MAX, type LoadSchemaOptions } from './schema-cache.js'
export { helpText, schemaOf, type SchemaInfo } from './introspection.js'
export {
  MONITOR_LIMITS,
  QmpMonitor,
  qmpVersion,
  type MonitorAddress,
  type MonitorLimits,
  type MonitorOptions,
} from './monitor.js'
export {
  command,
  type ArgumentsOf,
  type Command,
  type CommandContext,
  type CommandTable,
  type EventDefinition,
  type EventTable,
  type QmpMember,
  type QmpMembers,
  type QmpType,
  type ValueOf,
} from './schema.js'
