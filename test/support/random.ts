/** Random numbers that can be had again: the seed comes from the environment variable SEED, or is new; it is printed. */

import type { Test } from 'tap'
import { Random } from '../../src/util/random.js'

export function seededRandom(t: Test): Random {
  const random = new Random(process.env['SEED'])
  t.comment(`SEED=${random.seed}`)
  return random
}
