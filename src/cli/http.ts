/** The options of `serve` that concern HTTP: where, for whom, and with which token. */
import { randomBytes } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { InvalidArgumentError, Option, type Command } from 'commander'
import { fileProblem, UsageError } from '../util/errors.js'
import { isLoopback, parseHostPort, type HostPort } from './options.js'

export interface HttpCommandOptions {
  readonly http?: HostPort
  readonly httpTokenFile?: string
  readonly httpHost?: readonly string[]
}

export interface HttpChoice {
  readonly address: HostPort
  readonly token: string
  readonly hostNames: readonly string[]
}

/** Tells a worker the token that was made up for its supervisor, so that it outlives the worker. */
const TOKEN_VARIABLE = 'NBD_REMAP_HTTP_TOKEN'

export const addHttpOptions = (command: Command): Command =>
  command
    .addOption(
      new Option('--http <host:port>', 'serve /metrics, /healthz, and QMP over a WebSocket at /qmp').argParser(
        parseHostPort,
      ),
    )
    .option('--http-token-file <file>', 'a file with the token that HTTP clients need; else one is made up and shown')
    .addOption(
      new Option('--http-host <name>', 'a host name by which HTTP clients may ask; may be repeated').argParser(
        (name: string, previous: readonly string[] | undefined) => [...(previous ?? []), parseHostName(name)],
      ),
    )

function parseHostName(text: string): string {
  if (!/^[a-z0-9._-]+$/i.test(text)) throw new InvalidArgumentError('It must be a host name, without a port.')
  return text.toLowerCase()
}

/** Shows the token once if it had to be made up. @throws UsageError */
export function httpChoice({ http, httpTokenFile, httpHost = [] }: HttpCommandOptions): HttpChoice | undefined {
  if (!http) {
    if (httpTokenFile === undefined && httpHost.length === 0) return undefined
    throw new UsageError('--http-token-file and --http-host go with --http')
  }
  if (httpTokenFile === undefined && !isLoopback(http.host)) {
    throw new UsageError(
      `--http ${http.host}:${http.port} can be reached from other machines: choose a token with --http-token-file, or a loopback address`,
    )
  }
  const token = httpTokenFile === undefined ? madeUpToken() : readToken(httpTokenFile)
  return { address: http, token, hostNames: httpHost }
}

function madeUpToken(): string {
  const inherited = process.env[TOKEN_VARIABLE]
  if (inherited !== undefined) return inherited
  const token = randomBytes(24).toString('base64url')
  process.env[TOKEN_VARIABLE] = token
  process.stderr.write(`nbd-remap: the HTTP token, until it is stopped: ${token}\n`)
  return token
}

/** Nothing that is started later should find it. */
export const forgetToken = (): void => {
  Reflect.deleteProperty(process.env, TOKEN_VARIABLE)
}

const TOKEN_LENGTH_MIN = 16
const TOKEN_LENGTH_MAX = 512
const OTHERS = 0o007

function readToken(path: string): string {
  const token = contentOf(path).trim()
  if (token.length < TOKEN_LENGTH_MIN || token.length > TOKEN_LENGTH_MAX || !/^[A-Za-z0-9._~+/=-]+$/.test(token)) {
    throw new UsageError(
      `${path} holds no token: it must be one word of ${TOKEN_LENGTH_MIN} to ${TOKEN_LENGTH_MAX} letters, digits and ._~+/=-, such as "openssl rand -hex 24" prints`,
    )
  }
  return token
}

function contentOf(path: string): string {
  let mode: number
  let content: string
  try {
    mode = statSync(path).mode
    content = readFileSync(path, 'utf8')
  } catch (error) {
    throw new UsageError(`the token in ${path} cannot be read: ${fileProblem(error)}`, { cause: error })
  }
  if ((mode & OTHERS) !== 0) throw new UsageError(`every user of this machine can read the token: chmod o= ${path}`)
  return content
}
