/** The index of the last of the first `count` ascending values that is at most `value`; -1: none is. */
export function lastAtMost(values: ArrayLike<number>, count: number, value: number): number {
  let low = 0
  let high = count
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((values[middle] ?? 0) <= value) low = middle + 1
    else high = middle
  }
  return low - 1
}
