/**
 * `examine`: all checks against one server, one after the other. A check whose conversation breaks off is one failure, and
 * the next begins with new connections; when the server does not take these any more it has fallen over, and that ends it.
 */

import { GREETING_LENGTH } from '../nbd/protocol.js'
import { messageOf } from '../util/errors.js'
import type { Check } from './check.js'
import { Examination, learnFacts, type Facts, type Target } from './examination.js'
import type { Finding } from './finding.js'
import { HANDSHAKE_CHECKS } from './handshake-checks.js'
import { RawClient } from './raw-client.js'
import { REQUEST_CHECKS } from './request-checks.js'
import { WRITE_CHECKS } from './write-checks.js'

export const CHECKS: readonly Check[] = [...HANDSHAKE_CHECKS, ...REQUEST_CHECKS, ...WRITE_CHECKS]

export interface Report {
  readonly facts: Facts
  readonly findings: readonly Finding[]
  /** After which check nobody listened any more. */
  readonly fell?: string
}

export interface ExamineOptions {
  /** These checks instead of all. */
  readonly checks?: readonly Check[]
  /** Before each check. */
  readonly onCheck?: (check: Check, done: number, of: number) => void
}

/** @throws when nobody listens, or the server does not tell of the export at all */
export async function examine(target: Target, { checks = CHECKS, onCheck }: ExamineOptions = {}): Promise<Report> {
  const facts = await learnFacts(target)
  const findings: Finding[] = []
  for (const [done, check] of checks.entries()) {
    onCheck?.(check, done, checks.length)
    findings.push(...(await runCheck(target, facts, check)))
    const trouble = await refusal(target)
    if (trouble === undefined) continue
    const demand = 'go on listening whatever clients do'
    findings.push({ check: check.name, level: 'MUST', demand, result: 'fail', detail: trouble })
    return { facts, findings, fell: check.name }
  }
  return { facts, findings }
}

async function runCheck(target: Target, facts: Facts, check: Check): Promise<readonly Finding[]> {
  const { name, level, section } = check
  const lacking = check.lacks?.(facts, target)
  if (lacking !== undefined)
    return [{ check: name, level, demand: `meet "${section}"`, result: 'skip', detail: lacking }]
  const findings: Finding[] = []
  const examination = new Examination(target, facts, name, findings)
  try {
    await check.run(examination)
  } catch (error) {
    const demand = `keep up the conversation of "${section}"`
    findings.push({ check: name, level, demand, result: 'fail', detail: messageOf(error) })
  } finally {
    examination.close()
  }
  return findings
}

/** Why a client is not even greeted. */
async function refusal({ address, patienceMs }: Target): Promise<string | undefined> {
  try {
    const client = await RawClient.connect(address, patienceMs)
    await client.receive(GREETING_LENGTH).finally(() => client.socket.destroy())
    return undefined
  } catch (error) {
    return messageOf(error)
  }
}
