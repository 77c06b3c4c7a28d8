/** From values and times to places in a drawing: axes and their ticks. Pure. */
/** A lane whose values differ by more is drawn on a logarithmic axis. */
const LINEAR_RATIO_MAX = 200

export interface Axis {
  readonly ticks: readonly number[]
  readonly logarithmic: boolean
  /** @returns 0 at the bottom to 1 at the top */
  place(value: number): number
}

/** Ticks at 1, 2 or 5 times a power of ten, about so many of them, from 0 to the first that is not below `most`. */
export function niceTicks(most: number, count: number): number[] {
  if (!(most > 0) || !Number.isFinite(most)) return [0, 1]
  const rough = most / count
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough * 0.999) ?? 10)
  return Array.from({ length: Math.ceil(most / step - 0.001) + 1 }, (_, n) => Number((n * step).toPrecision(12)))
}

/** @param logarithmic allowed, if the values ask for it */
export function axisOf(values: readonly number[], logarithmic: boolean): Axis {
  const positive = values.filter((value) => value > 0)
  const most = positive.reduce((a, b) => Math.max(a, b), 0)
  const least = positive.reduce((a, b) => Math.min(a, b), Infinity)
  if (logarithmic && most / least > LINEAR_RATIO_MAX) return logarithmicAxis(least, most)
  const ticks = niceTicks(most, 3)
  const top = ticks.at(-1) ?? 1
  return { ticks, logarithmic: false, place: (value) => clamp(value / top) }
}

function logarithmicAxis(least: number, most: number): Axis {
  const bottom = Math.floor(Math.log10(least))
  const top = Math.ceil(Math.log10(most))
  const step = Math.ceil((top - bottom) / 3)
  const exponents = Array.from({ length: Math.floor((top - bottom) / step) + 1 }, (_, n) => bottom + n * step)
  return {
    ticks: exponents.map((exponent) => Number((10 ** exponent).toPrecision(3))),
    logarithmic: true,
    place: (value) => (value > 0 ? clamp((Math.log10(value) - bottom) / (top - bottom)) : 0),
  }
}

const clamp = (share: number): number => Math.min(1, Math.max(0, share))
