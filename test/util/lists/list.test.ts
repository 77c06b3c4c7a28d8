import t from 'tap'
import {
  parseList,
  printList,
  type ListFormat,
  type ListRange,
  type ParseOptions,
} from '../../../src/util/lists/list.js'

const OPTIONS: ParseOptions = { unit: 1024, statuses: '-*/', lost: false }
const parse = (text: string, options: Partial<ParseOptions> = {}): ListRange[] =>
  parseList(text, { ...OPTIONS, ...options })

const SOURCE = {
  size: 100_000,
  remaps: [
    { mainSector: 8, spareSector: 0, sectors: 8 },
    { mainSector: 16, spareSector: 80, sectors: 16 },
    { mainSector: 192, spareSector: 8, sectors: 8 },
  ],
  lost: [{ mainSector: 20, sectors: 2 }],
}
const print = (format: ListFormat, unit = 1024): string => [...printList(SOURCE, { format, unit })].join('')

void t.test('our own form: places, auto, lost, comments; in ascending order with the lines they stood in', (t) => {
  t.same(parse('# a comment\n\n 2048  auto 8 # why\n16 80 16\r\n20 lost 2\n16 lost 1'), [
    { line: 4, mainSector: 16, sectors: 16, spareSector: 80 },
    { line: 6, mainSector: 16, sectors: 1, lost: true },
    { line: 5, mainSector: 20, sectors: 2, lost: true },
    { line: 3, mainSector: 2048, sectors: 8 },
  ])
  t.same(parse(''), [])
  t.same(
    print('own'),
    '# nbd-remap remaps, in sectors of 512 bytes\n# main sector, spare sector, sectors\n8 0 8\n16 80 16\n192 8 8\n20 lost 2\n',
  )
  t.same(
    parse(print('own')).map((range) => ({ ...range, line: 0 })),
    [
      { line: 0, mainSector: 8, sectors: 8, spareSector: 0 },
      { line: 0, mainSector: 16, sectors: 16, spareSector: 80 },
      { line: 0, mainSector: 20, sectors: 2, lost: true },
      { line: 0, mainSector: 192, sectors: 8, spareSector: 8 },
    ],
  )
  t.end()
})

void t.test('a list of badblocks: neighbours joined, repetitions once, in blocks of any size', (t) => {
  t.same(parse('10\n11\n11\n5\n'), [
    { line: 4, mainSector: 10, sectors: 2 },
    { line: 1, mainSector: 20, sectors: 4 },
  ])
  t.same(parse('3\n', { unit: 4096, lost: true }), [{ line: 1, mainSector: 24, sectors: 8, lost: true }])
  t.equal(print('badblocks'), '4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n96\n97\n98\n99\n')
  t.equal(print('badblocks', 8192), '0\n1\n12\n', 'a block that is remapped in part')
  t.end()
})

void t.test('a ddrescue map: the areas with the statuses asked for, in sectors', (t) => {
  const map = `# Mapfile. Created by GNU ddrescue version 1.23
# Command line: ddrescue -d /dev/sdb image map
# current_pos  current_status  current_pass
0x00003200     +               1
#      pos        size  status
0x00000000  0x00003000  +
0x00003000  0x00000200  -
0x00003200  0x00000201  /
0x00003401  0x000001FF  *
0x00003600  01000  -
20480  4096  ?
`
  t.same(parse(map), [{ line: 7, mainSector: 24, sectors: 4 }])
  t.same(parse(map, { statuses: '?', lost: true }), [{ line: 11, mainSector: 40, sectors: 8, lost: true }])
  t.same(parse('0 + \n0x0 0x1000 -'), [{ line: 2, mainSector: 0, sectors: 8 }], 'without a pass, as older versions')
  const own = print('ddrescue')
  t.match(own, /^0x00000000 {2}0x00001000 {2}\+\n0x00001000 {2}0x00003000 {2}-\n/m)
  t.match(own, /0x00018000 {2}0x000006A0 {2}-\n$/, 'the last sector of the disk is short')
  t.same(
    parse(own).map(({ mainSector, sectors }) => [mainSector, sectors]),
    [
      [8, 24],
      [192, 4],
    ],
  )
  t.end()
})

void t.test('lines that are not what they should be are refused by their number', (t) => {
  const refused: [string, ListFormat | undefined, string][] = [
    ['5 auto', 'own', 'line 1: has 2 fields and should have MAIN_SECTOR SPARE_SECTOR|auto|lost SECTORS'],
    ['1 2 3\n4 auto 8 9', undefined, 'line 2: has 4 fields and should have MAIN_SECTOR SPARE_SECTOR|auto|lost SECTORS'],
    ['\n\n-8 auto 8', undefined, 'line 3: main sector "-8" is not a whole number'],
    ['8 auto 1.5', undefined, 'line 1: number of sectors "1.5" is not a whole number'],
    ['8 here 8', undefined, 'line 1: spare sector (a number, auto or lost) "here" is not a whole number'],
    ['9007199254740992 auto 8', undefined, 'line 1: main sector "9007199254740992" is too large'],
    ['1\n2\nx', undefined, 'line 3: block number "x" is not a whole number'],
    ['1\n2 3', undefined, 'line 2: has 2 fields and should have one block number'],
    ['9007199254740991', undefined, 'line 1: block 9007199254740991 lies on no disk'],
    ['a b c d', undefined, 'line 1: is in none of the known forms: own, badblocks, ddrescue'],
    [
      '1 2 3',
      'ddrescue',
      'line 1: is not the first line of a ddrescue map, which has its current position, status and pass',
    ],
    ['0x0 + 1\n0x0 0x200 x', undefined, 'line 2: is not an area of a ddrescue map: position, size, and one of ?*/-+'],
    ['0x0 + 1\n0x0 0x200 -\n0x100 0x200 +', undefined, 'line 3: the area at 256 begins before the one above it ends'],
    ['0x0 + 1\n0x0 0 -', undefined, 'line 2: the size of the area is 0'],
    ['0x0 + 1\n0x0 0xfffffffffffffffff -', undefined, 'line 2: size "0xfffffffffffffffff" is not a number of bytes'],
    ['0x0 + 1\n0x1fffffffffffff 1 -', undefined, 'line 2: the area lies on no disk'],
  ]
  for (const [text, format, message] of refused) {
    t.throws(() => parse(text, { format }), { name: 'ListError', message }, JSON.stringify(text))
  }
  t.end()
})
