import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createLog, parseLogLine } from '../../src/util/log.js'
import { LogFile } from '../../src/util/log-file.js'

void t.test('a log file is continued, and renamed when it is long enough', (t) => {
  const path = join(t.testdir({ log: 'before\n' }), 'log')
  const file = new LogFile(path, 40)
  file.append('1'.repeat(20) + '\n')
  t.notOk(existsSync(`${path}.1`))
  t.match(readFileSync(path, 'utf8'), /^before\n1+\n$/)
  file.append('2'.repeat(20) + '\n')
  file.append('3\n')
  t.equal(readFileSync(path, 'utf8'), '3\n')
  t.match(readFileSync(`${path}.1`, 'utf8'), /^before\n1+\n2+\n$/)
  for (let n = 0; n < 50; n++) file.append('4'.repeat(20) + '\n')
  t.ok(statSync(path).size + statSync(`${path}.1`).size < 130, 'two files, each of a line more than allowed at most')
  t.equal(statSync(path).mode & 0o077, 0, 'for its owner alone')
  t.end()
})

void t.test('a path that cannot be had is an error that names it', (t) => {
  const folder = t.testdir({})
  mkdirSync(join(folder, 'log'))
  t.throws(() => new LogFile(join(folder, 'log')), /cannot log to .*log: it is a folder, not a file$/)
  t.end()
})

void t.test('lines of a log are understood again, and others are not', (t) => {
  let written = ''
  createLog('info', (line) => (written = line)).warn('IO_ERROR {"a":1}')
  t.match(parseLogLine(written.trimEnd()), { level: 'warn', message: 'IO_ERROR {"a":1}' })
  t.equal(parseLogLine('nbd-remap: something is wrong'), undefined)
  t.end()
})
