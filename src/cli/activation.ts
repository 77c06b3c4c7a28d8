/**
 * Socket activation, as sd_listen_fds(3) describes it: whoever starts the server has the listening sockets open already and
 * passes them on, from descriptor 3. systemd does so, and libnbd for `nbdcopy -- [ nbd-remap serve ... ] ...`.
 */
import type { ListenAddress } from '../server/listener.js'
import { UsageError } from '../util/errors.js'

const FIRST_FD = 3
const VARIABLES = ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES'] as const

/**
 * The sockets that this process was given; none if it was started in another way. The variables are gone afterwards, so that
 * no child takes them for its own.
 * @param isAddressGiven the command line says where to listen
 * @throws UsageError when there are sockets, and they cannot be meant
 */
export function takeInheritedSockets(isAddressGiven: boolean): ListenAddress[] {
  const { LISTEN_PID: pid, LISTEN_FDS: fds } = process.env
  for (const variable of VARIABLES) Reflect.deleteProperty(process.env, variable)
  if (fds === undefined || fds === '0') return []
  if (pid !== String(process.pid)) {
    // Sockets of a parent, which did not remove the variables, are none of our business.
    if (isAddressGiven) return []
    throw new UsageError(
      `the sockets of LISTEN_FDS are for process ${pid ?? '?'} and this is ${process.pid}: start it without a shell or npx between`,
    )
  }
  const count = /^\d{1,4}$/.test(fds) ? Number(fds) : undefined
  if (count === undefined) throw new UsageError(`LISTEN_FDS is no number of sockets: ${fds}`)
  if (isAddressGiven)
    throw new UsageError('--socket and --listen do not go with sockets that are passed in (LISTEN_FDS)')
  return Array.from({ length: count }, (_, index) => ({ fd: FIRST_FD + index }))
}
