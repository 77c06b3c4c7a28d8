/** Numbers of the protocol in words, for logs. The words are the names of the constants in `protocol.ts`, so none is missing. */

import * as protocol from './protocol.js'

type Constant = readonly [name: string, value: number]

function constants(prefix: string, except?: string): Constant[] {
  return Object.entries(protocol)
    .flatMap(([name, value]): Constant[] =>
      name.startsWith(prefix) && typeof value === 'number' && (except === undefined || !name.startsWith(except))
        ? [[name, value]]
        : [],
    )
    .sort(([, a], [, b]) => a - b)
}

function namer(what: string, known: readonly Constant[]): (value: number) => string {
  const names = new Map(known.map(([name, value]) => [value, name]))
  return (value) => names.get(value) ?? `unknown ${what} ${value}`
}

function flagNamer(known: readonly Constant[]): (flags: number) => string {
  return (flags) => {
    const set = known.filter(([, bit]) => (flags & bit) !== 0)
    const unknown = set.reduce((rest, [, bit]) => rest & ~bit, flags) >>> 0
    return [...set.map(([name]) => name), ...(unknown === 0 ? [] : [`0x${unknown.toString(16)}`])].join('|')
  }
}

export const optionName = namer('option', constants('NBD_OPT_'))
export const optionReplyName = namer('option reply', constants('NBD_REP_', 'NBD_REP_FLAG_'))
export const infoName = namer('information', constants('NBD_INFO_'))
export const commandName = namer('command', constants('NBD_CMD_', 'NBD_CMD_FLAG_'))
export const chunkTypeName = namer('chunk type', constants('NBD_REPLY_TYPE_', 'NBD_REPLY_TYPE_FLAG_'))
export const errorName = namer('error', constants('NBD_E', 'NBD_EXTENDED_'))

/** `NBD_CMD_FLAG_FUA|NBD_CMD_FLAG_DF`; bits without a name come last, in hex. */
export const commandFlagNames = flagNamer(constants('NBD_CMD_FLAG_'))
export const transmissionFlagNames = flagNamer([
  ...constants('NBD_FLAG_HAS_FLAGS'),
  ...constants('NBD_FLAG_READ_ONLY'),
  ...constants('NBD_FLAG_SEND_'),
  ...constants('NBD_FLAG_ROTATIONAL'),
  ...constants('NBD_FLAG_CAN_MULTI_CONN'),
  ...constants('NBD_FLAG_BLOCK_STATUS_PAYLOAD'),
])
