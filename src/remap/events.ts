/** What the remapper tells the world. The names and the data are the control socket's (QMP) events. */

interface ScrubTold {
  position: number
  size: number
  'healed-blocks': number
  'lost-sectors': number
}

export interface RemapEvents {
  /** `reason`: a failed write, a failed or late read, an operator, or a spare block that failed. */
  REMAP_ADDED: {
    'main-sector': number
    'spare-sector': number
    sectors: number
    reason: 'write-error' | 'read-error' | 'weak' | 'operator' | 'spare-error' | 'replica'
    'lost-sectors': number
  }
  /** A disk failed a request. `action`: what became of the request of the client. */
  IO_ERROR: {
    disk: 'main' | 'spare'
    operation: string
    sector: number
    sectors: number
    error: string
    action: 'remapped' | 'recovered' | 'report'
  }
  /** A disk has not answered a request in time. `hangs`: it has answered nothing since. */
  IO_TIMEOUT: {
    disk: 'main' | 'replica'
    operation: string
    sector: number
    sectors: number
    seconds: number
    hangs: boolean
  }
  /** A disk that hung has answered something. */
  DISK_RESPONDS: { disk: 'main' | 'replica' }
  /** Positions and sizes are in bytes. */
  SCRUB_STARTED: ScrubTold & { speed: number }
  /** `error`: why, when nobody has stopped it. */
  SCRUB_STOPPED: ScrubTold & { error: string }
  SCRUB_COMPLETED: ScrubTold
  TABLE_RESIZED: { from: number; to: number; remaps: number }
  SPARE_LOW: { 'free-blocks': number; 'total-blocks': number }
  SPARE_EXHAUSTED: { 'total-blocks': number }
  METADATA_REPAIRED: { structure: 'header' | 'slot-page'; number: number; copies: number[]; reason: string }
}

export type RemapEventName = keyof RemapEvents

/** Called at once, on the data path: it must only pass on. */
export type RemapEventSink = <Name extends RemapEventName>(event: Name, data: RemapEvents[Name]) => void
