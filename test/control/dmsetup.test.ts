/** The text messages, without a disk: which words are taken, and what is asked for them. */
import t from 'tap'
import type { DeviceSubject, LookAtHealth } from '../../src/control/device-commands.js'
import { deviceMessage, wholeBlocks } from '../../src/control/dmsetup.js'
import { newStatistics } from '../../src/remap/statistics.js'

const message = (device: DeviceSubject, text: string): Promise<string> => deviceMessage(device, look, text)
const look: LookAtHealth = () =>
  Promise.resolve({
    ...{ score: 62, status: 'warning', trend: 'worse', scoreBefore: 80, failedBlocksPerDay: 4, daysLeft: 3 },
    reasons: [{ factor: 'lost-blocks', points: 38, text: 'blocks with lost content: 1' }],
  })

function subject(blockSize: number, answers: Readonly<Record<string, unknown>> = {}) {
  const asked: [string, unknown][] = []
  const facts = { blockSize, main: { name: 'main', location: '/main', size: 1000 * 512 }, size: 1000 * 512 }
  const parts = {
    facts: Promise.resolve(facts),
    statistics: () => Promise.resolve(newStatistics()),
    ask: (operation: string, args: unknown) => {
      asked.push([operation, args])
      return Promise.resolve(answers[operation])
    },
  }
  return { asked, device: parts as unknown as DeviceSubject }
}

void t.test('ranges are widened to whole blocks that lie alike on both disks', (t) => {
  t.same(wholeBlocks(1000, 5000, 100, 512), { 'main-sector': 1000, 'spare-sector': 5000, sectors: 100 })
  t.same(wholeBlocks(1100, 5100, 100, 4096), { 'main-sector': 1096, 'spare-sector': 5096, sectors: 104 })
  t.throws(() => wholeBlocks(100, 50, 8, 4096), /sector 100 is number 4 of its block.*take spare sector 52/)
  t.end()
})

void t.test('add_remap asks for the range, and not beyond the end of the disk', async (t) => {
  const { device, asked } = subject(4096, { 'remap-place': { added: 1, moved: 0 } })
  t.equal(await message(device, ' add_remap  996 4 4 '), 'Added remap: 996 -> 4 (length 4)')
  t.same(asked, [['remap-place', { 'main-sector': 992, 'spare-sector': 0, sectors: 8 }]])
})

void t.test('remove_remap takes a remap by its first sector, or so many sectors', async (t) => {
  const remaps = [{ 'main-sector': 1000, 'spare-sector': 0, sectors: 200, spare: 's', state: 'remapped' }]
  const answers = { 'query-remaps': { remaps, total: 1 }, 'remap-remove': { blocks: 200, kept: 0 } }
  const { device, asked } = subject(512, answers)
  await message(device, 'remove_remap 1000')
  t.same(asked.at(-1), ['remap-remove', { 'main-sector': 1000, sectors: 200 }])
  await message(device, 'remove_remap 1100 8')
  t.same(asked.at(-1), ['remap-remove', { 'main-sector': 1100, sectors: 8 }])
  await t.rejects(message(device, 'remove_remap 1100'), {
    message: /in the middle of the remap of the sectors 1000 to 1199: say remove_remap 1000/,
  })
  await t.rejects(message(device, 'remove_remap 900'), { message: 'sector 900 is not remapped' })
})

void t.test('what is no message is refused by name, and help lists them all', async (t) => {
  const { device } = subject(512)
  for (const [text, desc] of [
    ['', "there is no message '': the message help lists them"],
    ['nosuch 1', "there is no message 'nosuch': the message help lists them"],
    ['constructor', "there is no message 'constructor': the message help lists them"],
    ['ping 1', "'ping' takes nothing more"],
    ['add_remap 1 2', 'usage: add_remap MAIN SPARE LENGTH'],
    ['add_remap 1 2 3 4', 'usage: add_remap MAIN SPARE LENGTH'],
    ['add_remap -1 2 3', "MAIN must be a sector number, not '-1'"],
    ['add_remap 1 0x2 3', "SPARE must be a sector number, not '0x2'"],
    ['add_remap 1 2 0', 'LENGTH must be at least 1'],
    ['add_remap 1 2 99999999999999999999', "LENGTH must be a sector number, not '99999999999999999999'"],
  ] as const) {
    await t.rejects(message(device, text), { message: desc }, text)
  }
  const help = await message(device, 'help')
  for (const name of ['add_remap MAIN SPARE LENGTH', 'clear_all', 'spare_remove PATH']) t.match(help, name)
})

void t.test('the last word of the line of the health score is a number', async (t) => {
  const text = await message(subject(512).device, 'health')
  t.match(text, /^Health Status:\n {2}Health score: 62\n {2}Status: +WARNING\n {2}Trend: +WORSE\n/)
  t.match(text, /^ {2}Reason: +-38 blocks with lost content: 1\n {2}Days left: +3.0$/m)
})
