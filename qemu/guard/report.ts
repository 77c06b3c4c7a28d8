/** What the guard tells, a line each: for people, or as JSON. */

export type ReportKind =
  /** A monitor or the server can be asked now, or cannot any more. */
  | 'connected'
  | 'disconnected'
  /** A BLOCK_IO_ERROR, with what the server knows of it. */
  | 'error'
  /** The machine stays paused for now. */
  | 'waiting'
  /** The machine is told to go on; with a dry run: would be. */
  | 'continued'
  /** The machine runs, by somebody else's doing or after it was continued. */
  | 'runs'
  /** The machine is left alone: somebody, or another disk, has stopped it. */
  | 'left-alone'
  /** It is not tried any more. */
  | 'gave-up'
  /** The machine has a new connection to the server. */
  | 'replaced'

export interface Report {
  readonly kind: ReportKind
  readonly text: string
  readonly device?: string
  readonly details?: Readonly<Record<string, unknown>>
}

export const reportLine = ({ kind, text, device }: Report, time: Date): string =>
  `${time.toISOString()} ${kind.padEnd(12)} ${device === undefined ? '' : `${device}: `}${text}\n`

export const reportJson = ({ kind, text, device, details }: Report, time: Date): string =>
  `${JSON.stringify({ time: time.toISOString(), kind, ...(device !== undefined && { device }), text, ...details })}\n`
