/** Help as text, from the console's own table and from the schema of the server. */
import type { JsonObject } from '../../src/qmp/message.js'
import {
  membersOf,
  objectIn,
  typeText,
  type ObjectType,
  type QmpSchema,
  type SchemaCommand,
  type SchemaType,
} from '../../src/qmp/schema-model.js'
import { inColumns, inTable } from './format.js'
import { hintOf } from './complete.js'
import { OWN_COMMANDS, type OwnCommand } from './own-commands.js'

/** @param where name of the target */
export function overview(schema: QmpSchema | undefined, where: string, columns: number): string {
  const own = Object.entries(OWN_COMMANDS).map(
    ([name, { usage, description }]) => [`${name} ${usage}`.trim(), description] as const,
  )
  const commands = [...(schema?.commands.keys() ?? [])].sort()
  // Those of the server are many: what stands last is what is seen.
  return [
    schema === undefined ? `${where} does not tell its commands.` : `Commands of ${where} (help COMMAND tells more):`,
    inColumns(commands, columns),
    'Commands of the console:',
    inTable([...own, ['oob COMMAND', 'Out of band: overtakes a command that hangs.']], { columns }),
    'A line is COMMAND key=value ..., with dotted keys, or JSON; @NAME before it sends it to another target.',
  ].join('\n')
}

export function ownHelp(name: OwnCommand): string {
  const { usage, description } = OWN_COMMANDS[name]
  return `${`${name} ${usage}`.trim()}\n  ${description}`
}

/** What a command takes, with the variants that `given` selects. */
export function commandHelp(command: SchemaCommand, given: JsonObject): string {
  const features = command.features.length === 0 ? '' : ` (${command.features.join(', ')})`
  const said = command.description === undefined ? [] : [`  ${command.description}`]
  return [
    `${command.name}${features}`,
    ...said,
    ...argumentsHelp(command, given),
    ...(command.oob ? ['May overtake others: oob COMMAND.'] : []),
    ...returnsHelp(command.returns),
  ].join('\n')
}

export function eventHelp(name: string, data: ObjectType, description: string | undefined): string {
  return [
    `${name}: an event`,
    ...(description === undefined ? [] : [`  ${description}`]),
    ...memberLines('Data', data, {}),
  ].join('\n')
}

/** The members of objects that were begun stand below theirs, under dotted keys. */
function argumentsHelp({ name, arguments: type }: SchemaCommand, given: JsonObject): string[] {
  if (type.members.length === 0 && type.variants.size === 0) return ['No arguments.']
  const tag = openTag(type, given)
  const more = tag === undefined ? [] : [`What else there is depends on ${tag}: help ${name} ${tag}=...`]
  return [...memberLines('Arguments', type, given), ...more]
}

/** The first tag that was not given yet. */
function openTag(type: ObjectType, given: JsonObject): string | undefined {
  return type.tag !== undefined && !Object.hasOwn(given, type.tag) ? type.tag : undefined
}

function memberLines(title: string, type: ObjectType, given: JsonObject): string[] {
  const rows = memberRows(type, given, '')
  return rows.length === 0 ? [] : [`${title}:`, inTable(rows)]
}

function memberRows(type: ObjectType, given: JsonObject, prefix: string): (readonly [string, string])[] {
  return membersOf(type, given).flatMap((member) => {
    const inner = given[member.name]
    const below = objectIn(member.type)
    const row = [prefix + member.name, hintOf(member)] as const
    if (below === undefined || (typeof inner !== 'object' && member.type.kind !== 'object')) return [row]
    // What nobody asked for ends here: types contain themselves.
    return typeof inner === 'object' && inner !== null
      ? [row, ...memberRows(below, inner as JsonObject, `${prefix}${member.name}.`)]
      : [[row[0], `${row[1]}: ${namesOf(below)}`] as const]
  })
}

const namesOf = (type: ObjectType): string =>
  type.members.map(({ name, optional }) => (optional ? `[${name}]` : name)).join(' ')

function returnsHelp(type: SchemaType): string[] {
  const object = type.kind === 'array' ? objectIn(type.of) : objectIn(type)
  if (object === undefined) return [`Returns ${typeText(type)}.`]
  if (object.members.length === 0 && object.variants.size === 0) return ['Returns nothing.']
  const rows = object.members.map((member) => [member.name, hintOf({ ...member, optional: true })] as const)
  const optional = object.members.filter((member) => member.optional).map(({ name }) => name)
  return [
    type.kind === 'array' ? 'Returns a list of:' : 'Returns:',
    inTable(rows.map(([name, hint]) => [name, optional.includes(name) ? `${hint}, may be absent` : hint] as const)),
  ]
}
