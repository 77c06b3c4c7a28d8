/** The listening socket of the HTTP server, in the control thread. */
import { once } from 'node:events'
import type { HttpServer } from '../control/http-server.js'
import { explainListen } from '../server/listener.js'
import type { Log } from '../util/log.js'
import { advising } from './listen.js'
import type { HostPort } from './options.js'

/** @returns where it listens, with the port that was chosen when any would do. @throws Error with a sentence for people */
export function listenHttp({ server }: HttpServer, address: HostPort, log: Log): Promise<HostPort> {
  return advising('--http', async () => {
    server.listen(address.port, address.host)
    try {
      await once(server, 'listening')
    } catch (error) {
      throw explainListen(address, error)
    }
    server.on('error', (error) => {
      log.error(`cannot accept an HTTP connection: ${error.message}`)
    })
    const bound = server.address()
    return typeof bound === 'object' && bound ? { host: bound.address, port: bound.port } : address
  })
}
