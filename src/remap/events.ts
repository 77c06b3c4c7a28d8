/** What the remapper tells the world. The names and the data are the control socket's (QMP) events. */

interface ScrubTold {
  position: number
  size: number
  'healed-blocks': number
  'lost-sectors': number
}

/** Copies of one header or slot page. */
export interface MetadataCopies {
  spare: string
  structure: 'header' | 'slot-page'
  /** Of the slot page. */
  number: number
  copies: number[]
  reason: string
}

export interface RemapEvents {
  /** `reason`: a failed write, a failed or late read, an operator, a spare block that failed, or a spare being removed. */
  REMAP_ADDED: {
    'main-sector': number
    /** Name of the disk. */
    spare: string
    'spare-sector': number
    sectors: number
    reason: 'write-error' | 'read-error' | 'weak' | 'operator' | 'spare-error' | 'spare-removed' | 'replica'
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
    /** Its number in the fault log, when it was injected. */
    fault?: number
  }
  /** A disk has not answered a request in time. `hangs`: it has answered nothing since. */
  IO_TIMEOUT: {
    disk: 'main' | 'spare' | 'replica'
    name: string
    operation: string
    sector: number
    sectors: number
    seconds: number
    hangs: boolean
    /** Its number in the fault log, when it was injected. */
    fault?: number
  }
  /** A disk that hung has answered something. */
  DISK_RESPONDS: { disk: 'main' | 'spare' | 'replica'; name: string }
  /** Positions and sizes are in bytes. */
  SCRUB_STARTED: ScrubTold & { speed: number }
  /** `error`: why, when nobody has stopped it. */
  SCRUB_STOPPED: ScrubTold & { error: string }
  SCRUB_COMPLETED: ScrubTold
  TABLE_RESIZED: { from: number; to: number; remaps: number }
  REMAP_REMOVED: { 'main-sector': number; spare: string; 'spare-sector': number; sectors: number }
  /** In place of many REMAP_ADDED or REMAP_REMOVED. */
  REMAP_BATCH: { operation: 'add' | 'remove'; ranges: number; blocks: number }
  REMAP_PROGRESS: {
    operation: 'add' | 'remove'
    phase: 'copying' | 'changing-over'
    'done-blocks': number
    'total-blocks': number
  }
  SPARE_LOW: { 'free-blocks': number; 'total-blocks': number }
  SPARE_EXHAUSTED: { 'total-blocks': number }
  SPARE_ADDED: { spare: string; uuid: string; 'total-blocks': number }
  SPARE_REMOVED: { spare: string; uuid: string; 'moved-blocks': number }
  SPARE_REMOVAL_FAILED: { spare: string; uuid: string; reason: string; 'remaining-blocks': number }
  /** Another server has taken the pair over: this one writes nothing any more, and ends. */
  OWNERSHIP_LOST: { spare: string; reason: string }
  METADATA_REPAIRED: MetadataCopies
  /** They are not what they should be, and could not be rewritten. */
  METADATA_DAMAGED: MetadataCopies
  METADATA_PROGRESS: {
    operation: 'verify' | 'repair'
    spare: string
    'done-pages': number
    'total-pages': number
  }
}

export type RemapEventName = keyof RemapEvents

/** Called at once, on the data path: it must only pass on. */
export type RemapEventSink = <Name extends RemapEventName>(event: Name, data: RemapEvents[Name]) => void
