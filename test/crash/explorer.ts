/**
 * Visits what the disks may hold at every moment of a history: between any two writes and flushes, everything, nothing and
 * any part of what was not durable kept. Each such state is opened, read whole and compared with the model. Of some of
 * them it is asked as well whether
 *
 *   - a power cut during the opening leaves a state that is as good, and so on
 *   - a second opening finds the same, even when one copy of everything has been lost meanwhile
 *   - what is written and flushed from then on is there after the next power cut
 */
import type { Random } from '../../src/util/random.js'
import { crashPoints, type Choice, type CrashPoint } from './crash-states.js'
import { aftermath, BrokenPromise, momentAt, touchesMetadata, type Chapter, type Survivor } from './aftermath.js'
import { Life } from './life.js'
import { Machine, NO_RULES, readSectors } from './machine.js'
import { contentOf, type Death } from './model.js'
import { copyImages, DISKS, type Images } from './simulated-disk.js'
import type { Shape, Step } from './steps.js'

/** At each moment so many states at most. */
const STATES_PER_POINT = 4
/** One in so many states is looked at in this way; `nested`: a power cut in a recovery that follows a cut recovery. */
const ONE_IN = { recovery: 5, nested: 12, again: 8, goingOn: 30, decay: 4 }
const RECOVERY_POINTS = 3

/** What was visited. `exhausted`: moments of which all states were. */
export const newCount = () => ({ histories: 0, states: 0, recoveries: 0, reopenings: 0, refused: 0, exhausted: 0 })

export type Count = ReturnType<typeof newCount>

export class Explorer {
  readonly count = newCount()
  readonly #random: Random

  constructor(random: Random) {
    this.#random = random
  }

  /** @throws BrokenPromise */
  async explore(shape: Shape, start: Images, steps: readonly Step[]): Promise<void> {
    this.count.histories++
    const life = new Life(shape, start, this.#random)
    await life.live(steps)
    for (const chapter of life.chapters) {
      for (const point of crashPoints(chapter.start, chapter.journal)) await this.#visitAll(shape, chapter, point)
    }
  }

  async #visitAll(shape: Shape, chapter: Chapter, point: CrashPoint): Promise<void> {
    if (point.states <= STATES_PER_POINT) this.count.exhausted++
    for (const choice of point.choices(STATES_PER_POINT, this.#random)) await this.#visit(shape, chapter, point, choice)
  }

  async #visit(shape: Shape, chapter: Chapter, point: CrashPoint, choice: Choice, outer?: Outer): Promise<void> {
    this.count.states++
    const death = outer?.death ?? (point.isAllKept(choice) ? 'killed' : 'power cut')
    const time = outer?.time ?? point.time
    const start = point.images(choice)
    const rules = momentAt(chapter, time)?.rules ?? NO_RULES
    const machine = new Machine(shape, copyImages(start), rules, this.#random)
    const decayed = outer || point.time < chapter.opened ? [] : this.#decay(machine, point, chapter.hasDecay)
    const mayBeRefused = decayed.length > 0 && machine.failsMetadata(rules)
    const deaths = { time, death, before: [...(outer?.before ?? []), ...decayed], mayBeRefused }
    const found = await aftermath(machine, chapter, point, choice, deaths)
    if (!found) {
      this.count.refused++
      return
    }
    if (mayBeRefused) return
    const before = [
      ...(outer?.before ?? []),
      ...decayed,
      ...point.describe(choice),
      `--- after a ${death} at event ${point.time}`,
    ]
    if (this.#oneIn(outer ? ONE_IN.nested : ONE_IN.recovery))
      await this.#cutRecovery(shape, chapter, start, machine, { time, death, before })
    if (this.#oneIn(ONE_IN.again)) await this.#openAgain(machine, found, before)
    else if (this.#oneIn(ONE_IN.goingOn)) await this.#goOn(machine, before)
  }

  /** Where no metadata is in flight, one copy of everything is enough, and of a failing one not even that is needed. */
  #decay(machine: Machine, point: CrashPoint, hasDecay: boolean): string[] {
    if (touchesMetadata(point, machine) || !this.#oneIn(ONE_IN.decay)) return []
    if (machine.failsMetadata()) return machine.loseSoundCopies(this.#random)
    return hasDecay ? [] : machine.loseCopies(this.#random)
  }

  #oneIn(count: number): boolean {
    return this.#random.below(count) === 0
  }

  /** Another power cut, while what survived the first is opened and read. */
  async #cutRecovery(shape: Shape, chapter: Chapter, start: Images, machine: Machine, outer: Outer): Promise<void> {
    const events = machine.journal.events.length
    if (events === 0) return
    const times = new Set(Array.from({ length: RECOVERY_POINTS }, () => this.#random.below(events + 1)))
    for (const point of crashPoints(start, machine.journal)) {
      if (!times.has(point.time)) continue
      for (const choice of point.choices(1 + this.#random.below(2), this.#random)) {
        this.count.recoveries++
        await this.#visit(shape, chapter, point, choice, outer)
      }
    }
  }

  /** The server is killed, copies decay, and it is started again: nothing has changed. */
  async #openAgain(machine: Machine, { seen }: Survivor, before: readonly string[]): Promise<void> {
    this.count.reopenings++
    const lost = !machine.failsMetadata() && this.#random.below(3) > 0 ? machine.loseCopies(this.#random) : []
    machine.changeServer()
    const broken = (what: string): BrokenPromise =>
      new BrokenPromise([`opened a second time: ${what}`, ...before, ...lost].join('\n    '))
    const pair = await machine.open().catch((error: unknown) => {
      throw broken(`it cannot be opened: ${String(error)}`)
    })
    const again = await readSectors(pair, machine.shape)
    const changed = again.findIndex((content, sector) => seen[sector] && !content?.equals(seen[sector]))
    if (changed >= 0) throw broken(`sector ${changed} has changed`)
  }

  /** Life goes on: all blocks are written and flushed, then the power is cut. */
  async #goOn(machine: Machine, before: readonly string[]): Promise<void> {
    const { shape } = machine
    const broken = (what: string): BrokenPromise =>
      new BrokenPromise([`going on afterwards: ${what}`, ...before].join('\n    '))
    machine.heal(...DISKS)
    machine.changeServer()
    const pair = await machine.open()
    const content = Array.from({ length: shape.sectors }, (_, sector) => contentOf(0xffff, sector))
    await pair.target.write(0, [Buffer.concat(content)])
    await pair.target.flush()
    machine.changeServer()
    const seen = await readSectors(await machine.open(), shape)
    const wrong = seen.findIndex((found, sector) => !found?.equals(content[sector]!))
    if (wrong >= 0) throw broken(`sector ${wrong} was written and flushed, and is something else now`)
  }
}

/** The power cut before the one that is looked at. */
interface Outer {
  readonly time: number
  readonly death: Death
  readonly before: readonly string[]
}
