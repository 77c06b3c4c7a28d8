/**
 * The commands of dm-remap's user guide, section by section, with `nbd-remap dmsetup` for dmsetup, `nbd-remap log` for dmesg,
 * files for loop devices, and the device used through its URI by nbdcopy and fio; test/vm/dmsetup.test.ts uses it in a guest. The
 * loops are those of the guide with fewer turns: `GUIDE_TURNS=200` runs them in full. What else differs is in docs/DMSETUP.md.
 */
import { spawn } from 'node:child_process'
import { truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { MiB } from '../../src/util/units.js'
import { MANY_PROCESSES_TIMEOUT_MS, newFolder, PROGRAM } from '../support/cli.js'
import { Devices } from '../support/devices.js'
import { run, runOk } from '../support/tools.js'

t.setTimeout(process.env['GUIDE_TURNS'] === undefined ? MANY_PROCESSES_TIMEOUT_MS : 3_600_000)

const MAIN = 50 * MiB
const SPARE = 300 * MiB
const TURNS = Number(process.env['GUIDE_TURNS'] ?? 10)

/** What the guide takes for granted. */
const PRELUDE = `
sudo() { "$@"; }
dmsetup() { "$NODE" "$PROGRAM" dmsetup "$@"; }
dmesg() { "$NODE" "$PROGRAM" log "$@"; }
MAIN_LOOP=$PWD/main_device
SPARE_LOOP=$PWD/spare_device
SECTORS=$(($(stat -c%s main_device) / 512))
TABLE="0 $SECTORS dm-remap-v4 $MAIN_LOOP $SPARE_LOOP"
`

void t.test("dm-remap's user guide", async (t) => {
  const devices = Devices.open(t)
  const folder = newFolder(t)
  const shell = [
    'env',
    `--chdir=${folder}`,
    `NODE=${process.execPath}`,
    `PROGRAM=${PROGRAM}`,
    'bash',
    '-euo',
    'pipefail',
    '-c',
  ]
  const guide = async (script: string): Promise<string> => {
    const { status, stdout, stderr } = await run('setpriv', '--pdeathsig', 'KILL', ...shell, PRELUDE + script)
    if (status !== 0) throw new Error(`exit code ${status ?? 'none'} of:\n${script}\n${stdout}${stderr}`)
    return stdout
  }
  const [data, copy] = [join(folder, 'data'), join(folder, 'copy')]
  for (const [name, size] of [
    ['main_device', MAIN],
    ['spare_device', SPARE],
    ['data', MAIN],
  ] as const) {
    writeFileSync(join(folder, name), '')
    truncateSync(join(folder, name), size)
  }
  await runOk('dd', 'if=/dev/urandom', `of=${data}`, 'bs=1M', 'count=4', 'conv=notrunc', 'status=none')
  let uri = ''
  const assertContent = async (t: Test): Promise<void> => {
    await runOk('nbdcopy', uri, copy)
    t.match(await run('cmp', data, copy), { status: 0 }, 'the content is what it was')
  }
  let watching: Promise<unknown> = Promise.resolve()

  await t.test('Quick Start: create, use, add remaps, monitor', async (t) => {
    const created = await guide(`
echo "$TABLE" | sudo dmsetup create dm-remap-test
sudo dmsetup info dm-remap-test`)
    uri = created.split('\n')[0] ?? ''
    t.match(created, /^Name: +dm-remap-test\nState: +ACTIVE$/m)
    await runOk('nbdcopy', data, uri)
    const script = `${PRELUDE} sudo dmesg -w | grep --line-buffered "Adaptive hash table"`
    const watch = spawn('setpriv', ['--pdeathsig', 'KILL', ...shell, script], { stdio: ['ignore', 'pipe', 'inherit'] })
    let seen = ''
    const resized = new Promise<void>((resolve) => {
      watch.stdout.on('data', (some: Buffer) => {
        seen += some.toString()
        if (seen.includes('count=1537')) resolve()
      })
    })
    const ended = new Promise((resolve) => watch.once('close', resolve))
    await guide(`
sudo dmsetup message dm-remap-test 0 "add_remap 1000 5000 100"
for i in {1..10}; do
  sudo dmsetup message dm-remap-test 0 "add_remap $((1000+i*100)) $((5000+i*100)) 100"
done`)
    t.match(await devices.ask('dm-remap-test', 'query-remaps'), {
      remaps: [{ 'main-sector': 1000, 'spare-sector': 5000, sectors: 1100 }],
      total: 1,
    })
    await assertContent(t)
    const log = await guide(`sudo dmesg | grep "resize" | tail -10`)
    t.match(
      log,
      /Adaptive hash table resize: 64 -> 128 buckets \(count=97\)\n.*Hash table resize complete: 64 -> 128 buckets/,
    )
    await guide(`sudo dmsetup message dm-remap-test 0 "add_remap 3000 7000 500"`)
    await resized
    t.match(seen, /Adaptive hash table resize: 64 -> 128 buckets \(count=97\)/, 'dmesg -w has shown it')
    watching = ended
  })

  await t.test('Adding Remaps, and the same again', async (t) => {
    const answer = await guide(`sudo dmsetup message dm-remap-test 0 "add_remap 1000 5000 100"`)
    t.equal(answer, 'Added remap: 1000 -> 5000 (length 100, was there already)\n')
  })

  await t.test('Batch Remapping', async (t) => {
    const said = await guide(`
DEVICE="dm-remap-test"
BATCH_SIZE=${TURNS > 100 ? 100 : 3}
NUM_BATCHES=${TURNS > 100 ? 10 : 2}
for ((batch=0; batch<NUM_BATCHES; batch++)); do
  for ((i=0; i<BATCH_SIZE; i++)); do
    DEST=$((batch * BATCH_SIZE + i * 1000))
    SRC=$((batch * BATCH_SIZE + i * 5000))
    sudo dmsetup message $DEVICE 0 "add_remap $DEST $SRC $BATCH_SIZE"
  done
  echo "Added $((batch+1)*BATCH_SIZE) remaps"
done`)
    t.match(said, /^Added remap: 2000 -> 10000 \(length \d+, moved there from another place\)$/m)
    t.equal(said.match(/^Added .* remaps$/gm)?.length, TURNS > 100 ? 10 : 2)
    await assertContent(t)
  })

  await t.test('Querying Remaps', async (t) => {
    const said = await guide(`
sudo dmsetup status dm-remap-test
sudo dmsetup table dm-remap-test
sudo dmesg | grep "dm-remap" | tail -50`)
    t.match(
      said,
      new RegExp(
        `^0 ${MAIN / 512} dm-remap-v4 v\\S+ \\S+/main_device \\S+/spare_device (\\S+ ){23}operational real$`,
        'm',
      ),
    )
    t.match(said, new RegExp(`^0 ${MAIN / 512} dm-remap-v4 \\S+/main_device \\S+/spare_device$`, 'm'))
    t.match(said, /dm-remap dm-remap-test: message "add_remap/)
  })

  await t.test('Monitoring', async (t) => {
    const said = await guide(`
sudo dmsetup message dm-remap-test 0 status | grep -A 10 "Device status:"
sudo dmsetup message dm-remap-test 0 stats | grep -A 6 "Statistics:"
health=$(sudo dmsetup message dm-remap-test 0 health | grep "Health score:" | awk '{print $NF}')
[ $health -lt 70 ] || echo "OK: Health score $health"
sudo dmesg | grep -c "Adaptive hash table resize"
sudo dmesg | grep "Adaptive hash table\\|initial size" | head -1
sudo dmsetup targets | grep -q dm-remap-v4
sudo dmsetup info dm-remap-test
sudo dmesg | grep -c -i "dm-remap.*error\\|dm-remap.*failed" || true`)
    t.match(said, /^ {2}Remaps active: +\d{4,}$/m)
    t.match(said, /^ {2}Read operations: +\d+$/m)
    t.match(said, /^OK: Health score \d+$/m)
    t.match(said, /initial size=64/)
    t.match(said, /^State: +ACTIVE$/m)
    t.match(said, /^0\n$/m, 'no errors')
  })

  await t.test('Resize Events, on a new device', async (t) => {
    const log = await guide(`
truncate -s 50M main2 spare2
echo "0 $SECTORS dm-remap-v4 $PWD/main2 $PWD/spare2" | sudo dmsetup create resize-test
for i in {1..${TURNS}}; do
  sudo dmsetup message resize-test 0 "add_remap $((1000+i*10)) $((5000+i*10)) 10"
done
sudo dmesg | grep "resize-test: Adaptive hash table resize"
sudo dmsetup remove resize-test`)
    const sizes = [...log.matchAll(/resize: (\d+) -> (\d+) buckets \(count=(\d+)\)/g)].map((match) => match.slice(1))
    const expected = [64, 128, 256, 512, 1024].filter((buckets) => TURNS * 10 * 100 > buckets * 150)
    t.same(
      sizes,
      expected.map((buckets) => [buckets, buckets * 2, buckets * 1.5 + 1].map(String)),
    )
  })

  await t.test('the device is used by fio, and keeps its data when it is created anew', async (t) => {
    const fio = [
      '--name=verify',
      '--ioengine=nbd',
      '--rw=randwrite',
      '--bs=4k',
      '--size=4m',
      '--verify=crc32c',
      '--verify_state_save=0',
    ]
    await runOk('fio', ...fio, '--output=/dev/null', `--uri=${uri}`)
    await runOk('nbdcopy', uri, data)
    await guide(`
sudo dmsetup remove dm-remap-test
echo "$TABLE" | sudo dmsetup create dm-remap-test`)
    await assertContent(t)
    t.match(await guide(`sudo dmsetup status dm-remap-test`), /operational real/)
  })

  await t.test('Cleanup', async (t) => {
    const said = await guide(`
sudo dmsetup remove dm-remap-test
sudo dmesg | grep "dm-remap" | tail -1
rm main_device spare_device`)
    t.match(said, /dm-remap-test: stopped/)
    await watching
    t.equal(await devices.dmsetupOk('ls'), 'No devices found\n')
  })
})
