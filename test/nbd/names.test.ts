import t from 'tap'
import {
  chunkTypeName,
  commandFlagNames,
  commandName,
  errorName,
  infoName,
  optionName,
  optionReplyName,
  transmissionFlagNames,
} from '../../src/nbd/names.js'

void t.test('numbers have the names of the specification', (t) => {
  t.equal(optionName(7), 'NBD_OPT_GO')
  t.equal(optionReplyName(2 ** 31 + 1), 'NBD_REP_ERR_UNSUP')
  t.equal(infoName(3), 'NBD_INFO_BLOCK_SIZE')
  t.equal(commandName(0), 'NBD_CMD_READ')
  t.equal(commandName(1), 'NBD_CMD_WRITE')
  t.equal(chunkTypeName(1), 'NBD_REPLY_TYPE_OFFSET_DATA')
  t.equal(chunkTypeName(0x8002), 'NBD_REPLY_TYPE_ERROR_OFFSET')
  t.equal(errorName(28), 'NBD_ENOSPC')
  t.end()
})

void t.test('unknown numbers are named as unknown', (t) => {
  t.equal(commandName(99), 'unknown command 99')
  t.equal(optionName(99), 'unknown option 99')
  t.equal(optionReplyName(2 ** 31), 'unknown option reply 2147483648')
  t.end()
})

void t.test('flags are listed, unknown bits in hex', (t) => {
  t.equal(commandFlagNames(0), '')
  t.equal(commandFlagNames(5), 'NBD_CMD_FLAG_FUA|NBD_CMD_FLAG_DF')
  t.equal(commandFlagNames(0x8001), 'NBD_CMD_FLAG_FUA|0x8000')
  t.equal(transmissionFlagNames(0x103), 'NBD_FLAG_HAS_FLAGS|NBD_FLAG_READ_ONLY|NBD_FLAG_CAN_MULTI_CONN')
  t.end()
})
