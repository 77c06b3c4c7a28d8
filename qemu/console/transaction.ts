/**
 * A transaction while it is collected: each line is an action, written as the command of that name would be. What can be an
 * action the schema says, in the type of `transaction`'s argument.
 */
import type { JsonObject } from '../../src/qmp/message.js'
import { objectIn, typeAt, type ObjectType, type QmpSchema } from '../../src/qmp/schema-model.js'

export interface Action {
  readonly type: string
  readonly data: JsonObject
}

/** What each kind of action takes; empty when the server has no transactions. */
export function actionTypes(schema: QmpSchema | undefined): ReadonlyMap<string, ObjectType> {
  const command = schema?.commands.get('transaction')
  const action = command && typeAt(command.arguments, ['actions', '0'])
  const types = new Map<string, ObjectType>()
  if (action?.kind !== 'object') return types
  for (const [name, variant] of action.variants) {
    const data = variant.members.find((member) => member.name === 'data')
    const object = data && objectIn(data.type)
    if (object !== undefined) types.set(name, object)
  }
  return types
}
