/** The table of a device, as `dmsetup create` takes it: `0 SECTORS dm-remap-v4 MAIN SPARE`. */
import { UsageError } from '../../util/errors.js'
import { parseBlockSize, parseLength, parseLocation } from '../options.js'
import { messageOf } from '../../util/errors.js'

export interface TableLine {
  readonly sectors: number
  readonly main: string
  readonly spare: string
  /** Of a spare that is to be formatted. */
  readonly blockSize: number
}

export const TARGETS = ['dm-remap-v4', 'dm-remap']

const FORM = '0 SECTORS dm-remap-v4 MAIN SPARE [block_size BYTES]'

/** dm-remap's unit is the sector. */
const BLOCK_SIZE_DEFAULT = 512

/** @throws UsageError that says what is wrong with it */
export function parseTable(text: string): TableLine {
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
  const [line, ...more] = lines
  if (line === undefined) throw wrong('it is empty')
  if (more.length > 0) throw wrong(`it has ${lines.length} lines, and a device has one target`)
  const [start, sectors = '', target = '', main = '', spare = '', ...options] = line.split(/\s+/)
  if (start !== '0') throw wrong(`it must begin with 0, not '${start ?? ''}'`)
  const size = value('SECTORS', sectors, parseLength)
  if (!TARGETS.includes(target)) throw wrong(`the target is ${TARGETS.join(' or ')}, not '${target}'`)
  if (main === '' || spare === '') throw wrong('MAIN and SPARE are missing')
  return {
    sectors: size,
    main: value('MAIN', main, parseLocation),
    spare: value('SPARE', spare, parseLocation),
    blockSize: parseOptions(options),
  }
}

function parseOptions([name, size, ...more]: readonly string[]): number {
  if (name === undefined) return BLOCK_SIZE_DEFAULT
  if (name !== 'block_size' || size === undefined) throw wrong(`'${name}' is not expected after SPARE`)
  if (more.length > 0) throw wrong(`'${more.join(' ')}' is not expected after block_size ${size}`)
  return value('block_size', size, parseBlockSize)
}

function value<T>(name: string, text: string, parse: (text: string) => T): T {
  try {
    return parse(text)
  } catch (error) {
    throw wrong(`${name} is '${text}'. ${messageOf(error)}`)
  }
}

const wrong = (problem: string): UsageError => new UsageError(`the table cannot be used: ${problem} (${FORM})`)
