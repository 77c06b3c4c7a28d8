#!/usr/bin/env node
/**
 * Writes src/qmp/qemu-types.ts: TypeScript types of the QEMU commands that are listed here, from what the QEMU on this machine says of
 * itself. The names of QEMU's types are not part of that, so ours are made of the way to where a type is met first.
 *
 *     scripts/qemu-types.mjs            writes the file
 *     scripts/qemu-types.mjs --print    prints it
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import prettier from 'prettier'
import { QmpClient, QmpSchema } from '../dist/src/qmp/index.js'

const COMMANDS = [
  'block-commit',
  'block-export-add',
  'block-export-del',
  'block-job-cancel',
  'block-job-set-speed',
  'block-stream',
  'blockdev-add',
  'blockdev-backup',
  'blockdev-create',
  'blockdev-del',
  'blockdev-mirror',
  'blockdev-reopen',
  'cont',
  'device_del',
  'human-monitor-command',
  'job-cancel',
  'job-complete',
  'job-dismiss',
  'nbd-server-start',
  'nbd-server-stop',
  'qom-get',
  'qom-list',
  'qom-set',
  'query-block',
  'query-block-jobs',
  'query-blockstats',
  'query-commands',
  'query-jobs',
  'query-name',
  'query-named-block-nodes',
  'query-status',
  'query-version',
  'query-yank',
  'quit',
  'stop',
  'system_powerdown',
  'system_reset',
  'yank',
]
const FILE = path.join(import.meta.dirname, '../src/qmp/qemu-types.ts')
const ENUM_INLINE_MAX = 4

async function askQemu() {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'types-'))
  const socket = path.join(directory, 'q')
  const server = net.createServer().listen(socket)
  await once(server, 'listening')
  const args = ['-M', 'none', '-S', '-nodefaults', '-display', 'none', '-qmp', `unix:${socket}`]
  const child = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'inherit', 'inherit'] })
  try {
    const [connection] = await Promise.race([
      once(server, 'connection'),
      once(child, 'exit').then(() => Promise.reject(new Error('qemu-system-x86_64 ended'))),
    ])
    const client = await QmpClient.attach(connection, 'QEMU')
    const answer = await client.execute('query-qmp-schema')
    const exited = once(child, 'exit')
    await client.execute('quit')
    await exited
    const { major, minor } = client.greeting.version.qemu
    return { version: `${major}.${minor}`, schema: QmpSchema.parse(answer) }
  } finally {
    child.kill()
    server.close()
    await rm(directory, { recursive: true })
  }
}

function generate(schema, version) {
  const declarations = []
  const names = new Map()
  const taken = new Set()

  /** Gives a type a name of its own, and its declaration; a type that is met again has its name already. */
  function named(type, wish, declare) {
    const known = names.get(type)
    if (known !== undefined) return known
    let name = wish
    for (let number = 2; taken.has(name); number++) name = `${wish}${number}`
    taken.add(name)
    names.set(type, name)
    const at = declarations.push('') - 1
    declarations[at] = `export type ${name} = ${declare(name)}`
    return name
  }

  function textOf(type, way) {
    switch (type.kind) {
      case 'builtin':
        return (
          { string: 'string', int: 'number', number: 'number', boolean: 'boolean', null: 'null' }[type.json] ??
          'unknown'
        )
      case 'enum':
        return type.values.length <= ENUM_INLINE_MAX
          ? wordsText(type.values)
          : named(type, way, () => wordsText(type.values))
      case 'array':
        return `readonly (${textOf(type.of, way)})[]`
      case 'alternate':
        return type.of.map((one) => textOf(one, way)).join(' | ')
      case 'object':
        return isEmpty(type) ? 'NoMembers' : named(type, way, (name) => objectText(type, name))
    }
  }

  function objectText(type, name) {
    const common = membersText(
      type.members.filter((member) => member.name !== type.tag),
      name,
    )
    if (type.tag === undefined) return common
    const tag = type.members.find((member) => member.name === type.tag)
    const cases = new Map([[undefined, []]])
    for (const value of tag.type.values) {
      const variant = type.variants.get(value)
      const key = variant === undefined || isEmpty(variant) ? undefined : variant
      cases.set(key, [...(cases.get(key) ?? []), value])
    }
    const variants = [...cases].flatMap(([variant, values]) => {
      if (values.length === 0) return []
      const selected = `{ readonly ${JSON.stringify(type.tag)}${tag.optional ? '?' : ''}: ${wordsText(values)} }`
      return variant === undefined ? [selected] : [`(${selected} & ${textOf(variant, name + pascal(values[0]))})`]
    })
    return `${common} & (${variants.join(' | ')})`
  }

  const membersText = (members, name) => `{ ${members.map((member) => memberText(member, name)).join('; ')} }`
  const memberText = (member, name) =>
    `readonly ${JSON.stringify(member.name)}${member.optional ? '?' : ''}: ${textOf(member.type, name + pascal(member.name))}`

  const rows = COMMANDS.map((name) => {
    const command = schema.commands.get(name)
    if (command === undefined) throw new Error(`QEMU has no command ${name}`)
    const args = textOf(command.arguments, `${pascal(name)}Arguments`)
    const returns = textOf(command.returns, `${pascal(name)}Result`)
    return `  readonly '${name}': { readonly arguments: ${args}; readonly returns: ${returns} }`
  })
  return `/**
 * Types of QEMU commands, from QEMU ${version}: made by scripts/qemu-types.mjs, not by hand. Other versions have members more or fewer.
 */

export type NoMembers = Readonly<Record<string, never>>

/** What each command takes and returns. */
export interface QemuCommands {
${rows.join('\n')}
}

${declarations.join('\n\n')}
`
}

const isEmpty = (type) => type.members.length === 0 && type.tag === undefined
const wordsText = (values) => values.map((value) => `'${value}'`).join(' | ')
const pascal = (name) => name.replaceAll(/(?:^|[-_. ])(\w)/g, (_, letter) => letter.toUpperCase())

async function format(source) {
  return prettier.format(source, { ...(await prettier.resolveConfig(FILE)), filepath: FILE })
}

const { version, schema } = await askQemu()
const text = await format(generate(schema, version))
if (process.argv[2] === '--print') process.stdout.write(text)
else await writeFile(FILE, text)
