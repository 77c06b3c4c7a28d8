/**
 * What a workload runs in the guest: shell text for busybox. One program for each write and no pipes, since starting programs
 * is what costs time under emulation. It says on the report pipe, for write number N of workload NAME:
 *
 *     NAME b N          it begins
 *     NAME e N 0 SUM    it has succeeded and is on the disk; SUM is the SHA-256 of a file, `-` for a block
 *     NAME e N STATUS - it has failed
 *     NAME d N          file N is about to be deleted
 */
import type { Workload } from '../scenario/format-steps.js'
import { REPORT_PIPE } from './report-port.js'

export const stopFile = (name: string): string => `/tmp/${name}.stop`
export const dataSize = ({ kind, size }: Workload): number => size ?? (kind === 'files' ? 64 * 1024 : 4096)

/** In a `while` of the guest: not told to stop, and not yet `count` writes. */
const goesOn = ({ name, count }: Workload): string =>
  `[ ! -e ${stopFile(name)} ]${count === undefined ? '' : ` && [ $n -lt ${count} ]`}`

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

/** @param first the number of its first write: names of files are used once, also after the guest was started anew */
export function workloadScript(workload: Workload, first: number): string {
  return workload.kind === 'files' ? filesScript(workload, first) : blocksScript(workload, first)
}

function filesScript(workload: Workload, first: number): string {
  const { name, target, keep } = workload
  const data = `/tmp/${name}.data`
  const size = dataSize(workload)
  return `
    rm -f ${stopFile(name)}; exec 3> ${REPORT_PIPE}; n=${first}
    cd ${quoted(target)} || exit
    while ${goesOn(workload)}; do
      dd if=/dev/urandom of=${data} bs=${size} count=1 2> /dev/null && sha256sum ${data} > ${data}.sum || exit
      read -r sum rest < ${data}.sum
      echo "${name} b $n" >&3
      dd if=${data} of=${name}-$n bs=${size} conv=fsync 2> /dev/null
      echo "${name} e $n $? $sum" >&3
      n=$((n + 1)); old=$((n - ${keep}))
      [ $old -lt 0 ] || { echo "${name} d $old" >&3; rm -f ${name}-$old; }
    done`
}

function blocksScript(workload: Workload, first: number): string {
  const { name, target, keep } = workload
  const size = dataSize(workload)
  const data = `/tmp/${name}.data`
  const place = quoted(target)
  return `
    rm -f ${stopFile(name)}; exec 3> ${REPORT_PIPE}; n=${first}
    [ -b ${place} ] || [ -e ${place} ] || dd if=/dev/zero of=${place} bs=${size} count=${keep} conv=fsync 2> /dev/null || exit
    while ${goesOn(workload)}; do
      printf '%-${size - 1}s\\n' "${name} $n" > ${data}
      echo "${name} b $n" >&3
      dd if=${data} of=${place} bs=${size} seek=$((${firstBlock(workload)} + n % ${keep})) count=1 conv=notrunc oflag=direct 2> /dev/null
      echo "${name} e $n $? -" >&3
      n=$((n + 1))
    done`
}

export const firstBlock = (workload: Workload): number => (workload.at * 512) / dataSize(workload)

/** Prints the blocks of the workload as they are on the disk. */
export const readBlocks = (workload: Workload): string =>
  `dd if=${quoted(workload.target)} bs=${dataSize(workload)} skip=${firstBlock(workload)} count=${workload.keep} iflag=direct 2> /dev/null`

/** Prints the checksums of files; what cannot be read is left out. */
export const sumFiles = (workload: Workload, numbers: readonly number[]): string =>
  `cd ${quoted(workload.target)} && sha256sum ${numbers.map((n) => `${workload.name}-${n}`).join(' ')}`
