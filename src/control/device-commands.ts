/** The commands that device-mapper's users know: suspend, resume, messages as text, and the lines of dmsetup. */
import { command, type Command } from '../qmp/schema.js'
import { messageOf } from '../util/errors.js'
import type { Log } from '../util/log.js'
import type { DataPlane } from './data-plane.js'
import type { CheckedSectors } from './device-operations.js'
import type { WatchedHealth } from './health-watch.js'
import { deviceMessage, isLooking } from './dmsetup.js'
import { deviceLines } from './dmsetup-reports.js'

export type DeviceSubject = Pick<DataPlane, 'facts' | 'statistics' | 'spares' | 'state' | 'ask' | 'clients'>

/** How the health is now. */
export type LookAtHealth = () => Promise<WatchedHealth>

const LINES = {
  kind: 'object',
  members: {
    sectors: { kind: 'size', description: 'of the device' },
    table: { kind: 'str' },
    status: { kind: 'str' },
  },
} as const

/** Of one `check-sectors`: 64 MiB, as long as requests of clients are at most. */
const CHECK_SECTORS_MAX = 131_072

const CHECKED = {
  kind: 'object',
  members: {
    readable: { kind: 'bool' },
    'bad-sector': { kind: 'size', optional: true, description: 'the first one that cannot be read' },
    error: { kind: 'str', optional: true, description: 'why, EIO for example' },
  },
} as const

export const deviceCommands = (subject: DeviceSubject, look: LookAtHealth, log: Log): Record<string, Command> => ({
  'device-message': command({
    description: "Carries out one of dm-remap's messages, such as 'add_remap 1000 5000 100'; 'help' lists them",
    arguments: { message: { kind: 'str' } },
    returns: { kind: 'object', members: { text: { kind: 'str', description: 'for people; may have several lines' } } },
    handler: async ({ message }) => ({ text: await logged(message, deviceMessage(subject, look, message), log) }),
  }),
  'query-device-lines': command({
    description: 'The lines of dmsetup table and dmsetup status',
    returns: LINES,
    handler: () => deviceLines(subject, look),
  }),
  'check-sectors': command({
    description:
      'Reads these sectors as a client would, which repairs what can be repaired, and says whether that works',
    arguments: {
      'main-sector': { kind: 'size' },
      sectors: { kind: 'int', min: 1, max: CHECK_SECTORS_MAX },
    },
    returns: CHECKED,
    handler: async (args) => (await subject.ask('check-sectors', args)) as CheckedSectors,
  }),
  suspend: command({
    description: 'Finishes and flushes what is in flight, and holds all further requests until resume',
    handler: async () => {
      await subject.ask('suspend', {})
    },
  }),
  resume: command({
    description: 'Lets the requests go on that are held',
    handler: async () => {
      await subject.ask('resume', {})
    },
  }),
})

/** dm-remap's users look for what became of a message in the log. */
async function logged(message: string, answer: Promise<string>, log: Log): Promise<string> {
  if (isLooking(message)) return answer
  try {
    const text = await answer
    log.info(`message ${JSON.stringify(message)}: ${text.split('\n')[0] ?? ''}`)
    return text
  } catch (error) {
    log.warn(`message ${JSON.stringify(message)} failed: ${messageOf(error)}`)
    throw error
  }
}
