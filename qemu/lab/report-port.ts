/**
 * `ReportPort`: a second virtio-serial port, on which the guest says at once what it is doing. The host's clock counts, so a
 * pause is seen in full even if the guest's own clock stood still in it.
 *
 * The surprise: the guest may open a port once, so `GUEST_SETUP` puts a pipe in front of it, in which the short lines of
 * many writers do not mix.
 */
import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import path from 'node:path'
import { LineSplitter } from '../guest-protocol.js'
import { checkSocketPath } from '../qmp-listener.js'

const PORT_NAME = 'nbd-remap.report.0'

/** In the guest, what writers write to. */
export const REPORT_PIPE = '/run/report'

/** Run in the guest once after each boot. */
export const GUEST_SETUP = `
  for file in /sys/class/virtio-ports/*/name; do
    read -r name < $file && [ "$name" = ${PORT_NAME} ] && port=\${file%/name}
  done
  mkfifo ${REPORT_PIPE}
  setsid cat <> ${REPORT_PIPE} > /dev/\${port##*/} 2> /dev/null &`

export const reportPortArgs = (directory: string): string[] => {
  const socket = checkSocketPath(reportSocket(directory)).replaceAll(',', ',,')
  return [
    '-chardev',
    `socket,id=report,path=${socket},server=on,wait=off`,
    '-device',
    `virtserialport,chardev=report,name=${PORT_NAME}`,
  ]
}

const reportSocket = (directory: string): string => path.join(directory, 'report.sock')

export class ReportPort {
  readonly #socket: Socket

  private constructor(socket: Socket) {
    this.#socket = socket
  }

  /** The machine runs already. */
  static async connect(directory: string, onLine: (words: readonly string[]) => void): Promise<ReportPort> {
    const socket = createConnection(reportSocket(directory))
    await once(socket, 'connect')
    const lines = new LineSplitter()
    socket.on('data', (chunk: Buffer) => {
      for (const line of lines.push(chunk)) onLine(line.split(' '))
    })
    // The machine is gone: whoever waits for it is told elsewhere.
    socket.on('error', () => undefined)
    return new ReportPort(socket)
  }

  close(): void {
    this.#socket.destroy()
  }
}
