import t from 'tap'
import { parseTable } from '../../../src/cli/dmsetup/table-line.js'

void t.test('a table has one line, and comments', (t) => {
  const disks = { sectors: 1024, main: '/dev/sdb', spare: 'spare.img' }
  t.same(parseTable('0 1024 dm-remap-v4 /dev/sdb spare.img'), { ...disks, blockSize: 512 })
  t.same(parseTable('# ours\n\n  0  1024\tdm-remap /dev/sdb spare.img block_size 4096 \n'), {
    ...disks,
    blockSize: 4096,
  })
  t.end()
})

void t.test('what is wrong with a table is said', (t) => {
  for (const [table, problem] of [
    ['', /it is empty/],
    ['# nothing', /it is empty/],
    ['0 8 dm-remap a b\n8 8 dm-remap a b', /it has 2 lines, and a device has one target/],
    ['0 524288000\n4096 dm-remap-v4 a b', /it has 2 lines/],
    ['1 8 dm-remap a b', /it must begin with 0, not '1'/],
    ['0 many dm-remap a b', /SECTORS is 'many'/],
    ['0 0 dm-remap a b', /SECTORS is '0'/],
    ['0 8 linear a b', /the target is dm-remap-v4 or dm-remap, not 'linear'/],
    ['0 8 dm-remap a', /MAIN and SPARE are missing/],
    ['0 8 dm-remap a b block_size', /'block_size' is not expected after SPARE/],
    ['0 8 dm-remap a b block_size 1000', /block_size is '1000'/],
    ['0 8 dm-remap a b block_size 512 x', /'x' is not expected after block_size 512/],
    ['0 8 dm-remap a b retries 3', /'retries' is not expected after SPARE/],
  ] as const) {
    t.throws(() => parseTable(table), { name: 'UsageError', message: problem }, table)
  }
  t.end()
})
