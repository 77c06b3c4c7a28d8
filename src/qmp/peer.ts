/** What the parts that use a connection need of it, whether it is one connection or one that comes back. */

import type { ExecuteOptions } from './client.js'
import type { EventFilter, EventQueue } from './events.js'
import type { JsonObject, QmpGreeting } from './message.js'

export interface QmpPeer {
  readonly greeting: QmpGreeting
  execute(command: string, args?: JsonObject, options?: ExecuteOptions): Promise<unknown>
  events(...names: (string | EventFilter)[]): EventQueue
}
