/**
 * Names that only the running server knows: block nodes, jobs, exports, devices. Which argument holds which of them the schema does
 * not say, it calls all of them strings; the table here does, by the names of command and argument.
 */
import { isObject, type JsonObject } from '../../src/qmp/message.js'
import type { SchemaType } from '../../src/qmp/schema-model.js'

export type LiveKind =
  | 'nodes'
  | 'jobs'
  | 'exports'
  | 'devices'
  | 'objects'
  | 'chardevs'
  | 'netdevs'
  | 'spares'
  | 'qom'
  | 'human-commands'
  | 'human-info'

export interface Question {
  readonly command: string
  readonly arguments?: JsonObject
  readonly pick: (answer: unknown) => string[]
}

/** All values of this member, in a list of objects. */
const each =
  (...path: readonly string[]) =>
  (answer: unknown): string[] =>
    (Array.isArray(answer) ? answer : []).flatMap((item: unknown) => {
      const value = path.reduce<unknown>((inner, name) => (isObject(inner) ? inner[name] : undefined), item)
      return typeof value === 'string' && value !== '' ? [value] : []
    })

const children = (path: string): Question => ({
  command: 'qom-list',
  arguments: { path },
  pick: (answer) =>
    (Array.isArray(answer) ? answer.filter(isObject) : [])
      .filter(({ type }) => typeof type === 'string' && /^(?:child|link)</.test(type))
      .flatMap(({ name }) => (typeof name === 'string' ? [name] : [])),
})

const human = (line: string): Pick<Question, 'command' | 'arguments'> => ({
  command: 'human-monitor-command',
  arguments: { 'command-line': line },
})

/** Of each line: `drive_add [-n] ...`, `quit|q  -- quit the emulator`. */
function wordsOfHelp(answer: unknown, pattern: RegExp): string[] {
  const lines = typeof answer === 'string' ? answer.split(/\r?\n/) : []
  return lines.flatMap((line) => (pattern.exec(line)?.[1] ?? '').split('|').filter((word) => word !== ''))
}

const QUESTIONS: Readonly<Record<Exclude<LiveKind, 'qom'>, readonly Question[]>> = {
  nodes: [
    { command: 'query-named-block-nodes', arguments: { flat: true }, pick: each('node-name') },
    { command: 'query-block', pick: each('device') },
  ],
  jobs: [
    { command: 'query-jobs', pick: each('id') },
    { command: 'query-block-jobs', pick: each('device') },
  ],
  exports: [{ command: 'query-block-exports', pick: each('id') }],
  devices: [children('/machine/peripheral')],
  objects: [children('/objects')],
  chardevs: [{ command: 'query-chardev', pick: each('label') }],
  netdevs: [{ command: 'query-rx-filter', pick: each('name') }],
  'human-commands': [{ ...human('help'), pick: (answer) => wordsOfHelp(answer, /^([a-z_|?-]+)/) }],
  'human-info': [{ ...human('help info'), pick: (answer) => wordsOfHelp(answer, /^info ([a-z_-]+)/) }],
  spares: [{ command: 'query-status', pick: (answer) => (isObject(answer) ? each('name')(answer['spares']) : []) }],
}

/** @param prefix what is typed of a QOM path; its part up to the last slash is looked into */
export function questionsFor(kind: LiveKind, prefix: string): readonly Question[] {
  if (kind !== 'qom') return QUESTIONS[kind]
  const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1)
  if (folder === '') return [{ command: 'qom-list', arguments: { path: '/' }, pick: () => ['/machine/', '/objects/'] }]
  const { pick, ...question } = children(folder.replace(/(.)\/$/, '$1'))
  return [{ ...question, pick: (answer) => pick(answer).map((name) => folder + name) }]
}

interface Row {
  readonly command: RegExp
  readonly key: RegExp
  readonly kind: LiveKind
}

/** The first that matches. */
const ROWS: readonly Row[] = [
  { command: /^spare-/, key: /^spare$/, kind: 'spares' },
  { command: /^block-export-del$/, key: /^id$/, kind: 'exports' },
  { command: /^(?:block-)?job-/, key: /^(?:id|device)$/, kind: 'jobs' },
  { command: /^device_del$/, key: /^id$/, kind: 'devices' },
  { command: /^object-del$/, key: /^id$/, kind: 'objects' },
  { command: /^(?:chardev|ringbuf)-/, key: /^(?:id|device)$/, kind: 'chardevs' },
  { command: /^netdev_del$|^set_link$/, key: /^(?:id|name)$/, kind: 'netdevs' },
  { command: /^qom-/, key: /^path$/, kind: 'qom' },
  { command: /./, key: /^throttle-group$/, kind: 'objects' },
  { command: /^device_add$/, key: /^drive$/, kind: 'nodes' },
  // The node that a command makes has no name yet.
  {
    command: /^(?!blockdev-add$|blockdev-create$).*block|^nbd-|^transaction|^drive-|^change-backing|^x-blockdev/,
    key: /^(?:device|node|node-name|target|base-node|top-node|overlay|parent|replaces|bitmap-node)$/,
    kind: 'nodes',
  },
  { command: /^(?:eject|blockdev-.*medium)/, key: /^id$/, kind: 'devices' },
]

/** What can stand as the value of this key, the last part of a dotted one. */
export function liveKindOf(command: string, key: string, type: SchemaType | undefined): LiveKind | undefined {
  // A block node by its name, or described: QEMU's BlockdevRef.
  if (type?.kind === 'alternate' && type.of.some(({ kind }) => kind === 'object') && type.of.some(isString))
    return 'nodes'
  return ROWS.find((row) => row.command.test(command) && row.key.test(key))?.kind
}

const isString = (type: SchemaType): boolean => type.kind === 'builtin' && type.json === 'string'
