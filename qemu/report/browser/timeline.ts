/**
 * The script of the page: tells exact times and values at the pointer or the keyboard's cursor, and zooms. Without it the
 * page lacks nothing but that. It runs in the reader's browser and is compiled on its own, with the page's types.
 *
 * It writes text as text only, never as markup: what stands in a record may hold anything.
 */

interface TimelineData {
  readonly series: readonly {
    name: string
    unit: string
    className: string
    points: readonly [number, number | null][]
  }[]
  /** In the order of their times. */
  readonly marks: readonly { at: number; lasts: number; kind: string; text: string; failed: boolean }[]
}

const WIDTH_MIN = 620
const NEAR_PX = 5
const MARKS_TOLD_MAX = 6
const ZOOM_STEP = 2
const VIEW_MIN_MS = 5
const DRAG_MIN_PX = 6
const TICK_ROOM_PX = 90
const SVG = 'http://www.w3.org/2000/svg'

const clamp = (value: number, least: number, most: number): number => Math.min(most, Math.max(least, value))
const seconds = (ms: number): string => `${(ms / 1000).toFixed(3)} s`

function quantity(value: number, unit: string): string {
  const text = Math.abs(value) >= 100 ? Math.round(value).toLocaleString('en-US') : String(Number(value.toPrecision(3)))
  return unit === '' ? text : `${text} ${unit}`
}

function element(name: string, className: string, text = ''): HTMLElement {
  const made = document.createElement(name)
  made.className = className
  made.textContent = text
  return made
}

/** The last point that is not after `at`, if the line goes on from there. */
function valueAt(points: readonly [number, number | null][], at: number): number | null {
  let low = 0
  let high = points.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((points[middle]?.[0] ?? 0) <= at) low = middle + 1
    else high = middle
  }
  const [before, after] = [points[low - 1], points[low]]
  if (before === undefined) return null
  // Between two points the nearer one is what the eye sees.
  const isNearer = after !== undefined && after[0] - at < at - before[0]
  return isNearer ? after[1] : before[1]
}

class Timeline {
  readonly #figure: HTMLElement
  readonly #svg: SVGSVGElement
  readonly #data: TimelineData
  readonly #tip = element('div', 'tip')
  readonly #spoken = element('div', 'spoken')
  readonly #span: number
  readonly #left: number
  readonly #right: number
  readonly #axis: number
  readonly #character: number
  readonly #cut: number
  readonly #pad: number
  readonly #height: number
  #width = 0
  #from = 0
  #to: number
  #cursor: number | undefined
  #drag: { at: number; x: number } | undefined

  constructor(figure: HTMLElement, svg: SVGSVGElement, data: TimelineData) {
    this.#figure = figure
    this.#svg = svg
    this.#data = data
    const number = (name: string): number => Number(svg.dataset[name])
    this.#span = number('span')
    this.#left = number('left')
    this.#right = number('right')
    this.#axis = number('axis')
    this.#character = number('character')
    this.#cut = number('cut')
    this.#pad = number('pad')
    this.#height = svg.viewBox.baseVal.height
    this.#to = this.#span
    this.#spoken.setAttribute('aria-live', 'polite')
    figure.append(this.#tip, this.#spoken)
    this.#listen()
    new ResizeObserver(() => {
      this.#resize()
    }).observe(figure)
  }

  get #scale(): number {
    return (this.#width - this.#left - this.#right) / (this.#to - this.#from)
  }

  #x(ms: number): number {
    return this.#left + (ms - this.#from) * this.#scale
  }

  #listen(): void {
    const plot = this.#svg
    const tools = this.#figure.querySelector<HTMLElement>('.tools')
    if (tools !== null) tools.hidden = false
    tools?.addEventListener('click', (event) => {
      const action = (event.target as HTMLElement).dataset['action']
      if (action === 'in') this.#zoom(1 / ZOOM_STEP)
      if (action === 'out') this.#zoom(ZOOM_STEP)
      if (action === 'all') this.#show(0, this.#span)
    })
    plot.tabIndex = 0
    plot.addEventListener('pointermove', this.#onMove)
    plot.addEventListener('pointerdown', this.#onDown)
    plot.addEventListener('pointerup', this.#onUp)
    plot.addEventListener('pointerleave', this.#onLeave)
    plot.addEventListener('dblclick', () => {
      this.#show(0, this.#span)
    })
    plot.addEventListener('wheel', this.#onWheel, { passive: false })
    plot.addEventListener('keydown', this.#onKey)
    plot.addEventListener('blur', this.#onLeave)
  }

  /** The drawing has as many units as it has pixels, so that text keeps its size. */
  #resize(): void {
    const width = Math.max(WIDTH_MIN, Math.floor(this.#figure.clientWidth))
    if (width === this.#width) return
    this.#width = width
    this.#svg.setAttribute('viewBox', `0 0 ${width} ${this.#height}`)
    this.#svg.querySelector('.plot')?.setAttribute('width', String(width - this.#left - this.#right))
    for (const end of this.#svg.querySelectorAll('.end')) end.setAttribute('x', String(width - this.#right + 8))
    this.#draw()
  }

  #show(from: number, to: number): void {
    const length = clamp(to - from, Math.min(VIEW_MIN_MS, this.#span), this.#span)
    this.#from = clamp(from, 0, this.#span - length)
    this.#to = this.#from + length
    this.#draw()
  }

  /** Around the cursor, else around the middle. */
  #zoom(factor: number, around = this.#cursor ?? (this.#from + this.#to) / 2): void {
    const length = clamp((this.#to - this.#from) * factor, VIEW_MIN_MS, this.#span)
    const share = clamp((around - this.#from) / (this.#to - this.#from), 0, 1)
    this.#show(around - share * length, around + (1 - share) * length)
  }

  #draw(): void {
    const scale = this.#scale
    const shift = this.#left - this.#from * scale
    this.#svg.querySelector('.scaled')?.setAttribute('transform', `translate(${shift} 0) scale(${scale} 1)`)
    for (const label of this.#svg.querySelectorAll<SVGTextElement>('.labels text')) this.#place(label)
    this.#drawTicks()
    const isWhole = this.#from === 0 && this.#to === this.#span
    this.#figure.classList.toggle('zoomed', !isWhole)
    if (this.#cursor !== undefined) this.#point(this.#cursor)
  }

  /** A label moves with its mark, but what began before the view is told at its edge. */
  #place(label: SVGTextElement): void {
    const text = label.dataset['text'] ?? ''
    const start = Math.max(this.#x(Number(label.dataset['from'])), this.#left)
    const end = Math.min(this.#x(Number(label.dataset['to'])), this.#width - this.#right)
    const isStep = label.classList.contains('step')
    const begins = isStep || Number(label.dataset['from']) >= this.#from
    const characters = begins ? Math.floor((end - start - 2 * this.#pad) / this.#character) : 0
    label.setAttribute('x', String(start + this.#pad))
    const short = characters < this.#cut ? '' : `${text.slice(0, characters - 1).trimEnd()}…`
    label.textContent = text.length <= characters ? text : short
  }

  #drawTicks(): void {
    const ticks = this.#svg.querySelector('.ticks')
    if (ticks === null) return
    const count = Math.max(2, Math.floor((this.#width - this.#left - this.#right) / TICK_ROOM_PX))
    const rough = (this.#to - this.#from) / count
    const power = 10 ** Math.floor(Math.log10(rough))
    const step = power * ([1, 2, 5].find((factor) => factor * power >= rough * 0.999) ?? 10)
    const digits = Math.max(0, Math.ceil(-Math.log10(step / 1000) - 0.001))
    ticks.replaceChildren()
    for (let ms = Math.ceil(this.#from / step) * step; ms <= this.#to; ms += step) {
      ticks.append(...this.#tick(this.#x(ms), `${(ms / 1000).toFixed(digits)} s`))
    }
  }

  #tick(x: number, text: string): SVGElement[] {
    const line = document.createElementNS(SVG, 'path')
    line.setAttribute('d', `M${x} 24V${this.#axis}`)
    const label = document.createElementNS(SVG, 'text')
    label.setAttribute('x', String(x))
    label.setAttribute('y', String(this.#axis + 15))
    label.setAttribute('text-anchor', 'middle')
    label.textContent = text
    return [line, label]
  }

  readonly #onMove = (event: PointerEvent): void => {
    const at = this.#timeOf(event)
    this.#point(at)
    if (this.#drag !== undefined && Math.abs(event.clientX - this.#drag.x) > DRAG_MIN_PX)
      this.#drawSelection(this.#drag.at, at)
  }

  readonly #onDown = (event: PointerEvent): void => {
    if (event.button !== 0 || event.pointerType === 'touch') return
    this.#drag = { at: this.#timeOf(event), x: event.clientX }
    this.#svg.setPointerCapture(event.pointerId)
  }

  readonly #onUp = (event: PointerEvent): void => {
    const drag = this.#drag
    this.#drag = undefined
    this.#svg.querySelector('.selection')?.remove()
    if (drag === undefined || Math.abs(event.clientX - drag.x) <= DRAG_MIN_PX) return
    const at = this.#timeOf(event)
    this.#show(Math.min(at, drag.at), Math.max(at, drag.at))
  }

  readonly #onLeave = (): void => {
    if (this.#drag !== undefined) return
    this.#cursor = undefined
    this.#svg.querySelector('.cursor')?.setAttribute('visibility', 'hidden')
    this.#tip.classList.remove('shown')
  }

  /** The wheel alone scrolls the page. */
  readonly #onWheel = (event: WheelEvent): void => {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) return
    event.preventDefault()
    const shift = ((event.deltaX || event.deltaY) * (this.#to - this.#from)) / 800
    if (event.shiftKey) this.#show(this.#from + shift, this.#to + shift)
    else this.#zoom(event.deltaY > 0 ? 1.25 : 0.8, this.#timeOf(event))
  }

  readonly #onKey = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    const page = (this.#to - this.#from) / 2
    const actions: Record<string, () => void> = {
      ArrowRight: () => {
        this.#step(1)
      },
      ArrowLeft: () => {
        this.#step(-1)
      },
      Home: () => {
        this.#speakAt(0)
      },
      End: () => {
        this.#speakAt(this.#span)
      },
      PageDown: () => {
        this.#show(this.#from + page, this.#to + page)
      },
      PageUp: () => {
        this.#show(this.#from - page, this.#to - page)
      },
      '+': () => {
        this.#zoom(1 / ZOOM_STEP)
      },
      '=': () => {
        this.#zoom(1 / ZOOM_STEP)
      },
      '-': () => {
        this.#zoom(ZOOM_STEP)
      },
      '0': () => {
        this.#show(0, this.#span)
      },
      Escape: () => {
        this.#show(0, this.#span)
      },
    }
    const action = actions[event.key]
    if (action === undefined) return
    event.preventDefault()
    action()
  }

  /** To the next mark, or the one before. */
  #step(direction: 1 | -1): void {
    const at = this.#cursor ?? (direction === 1 ? -1 : this.#span + 1)
    const times = this.#data.marks.map((mark) => mark.at)
    const next = direction === 1 ? times.find((ms) => ms > at) : times.findLast((ms) => ms < at)
    this.#speakAt(next ?? (direction === 1 ? this.#span : 0))
  }

  #speakAt(at: number): void {
    if (at < this.#from || at > this.#to) {
      const half = (this.#to - this.#from) / 2
      this.#show(at - half, at + half)
    }
    this.#point(at)
    this.#spoken.textContent = this.#tip.innerText
  }

  #timeOf(event: MouseEvent): number {
    const box = this.#svg.getBoundingClientRect()
    const x = ((event.clientX - box.left) * this.#width) / box.width
    return clamp(this.#from + (x - this.#left) / this.#scale, this.#from, this.#to)
  }

  #drawSelection(a: number, b: number): void {
    const selection = this.#svg.querySelector('.selection') ?? document.createElementNS(SVG, 'rect')
    const [start, end] = [this.#x(Math.min(a, b)), this.#x(Math.max(a, b))]
    const attributes = { class: 'selection', x: start, y: 0, width: end - start, height: this.#axis }
    for (const [name, value] of Object.entries(attributes)) selection.setAttribute(name, String(value))
    this.#svg.append(selection)
  }

  /** Sets the cursor, and tells what is there. */
  #point(at: number): void {
    this.#cursor = at
    const x = this.#x(at)
    const cursor = this.#svg.querySelector('.cursor')
    cursor?.setAttribute('transform', `translate(${x} 0)`)
    cursor?.setAttribute('visibility', 'visible')
    const label = cursor?.querySelector('text')
    if (label) label.textContent = seconds(at)
    this.#tip.replaceChildren(...this.#linesAt(at))
    this.#tip.classList.add('shown')
    this.#placeTip(x)
  }

  #placeTip(x: number): void {
    const ratio = this.#svg.getBoundingClientRect().width / this.#width
    const isLeft = x > this.#width / 2
    this.#tip.style.left = isLeft ? '' : `${(x + 14) * ratio}px`
    this.#tip.style.right = isLeft ? `${(this.#width - x + 14) * ratio}px` : ''
  }

  #linesAt(at: number): HTMLElement[] {
    const lines = [element('div', 'when', seconds(at))]
    for (const { name, unit, className, points } of this.#data.series) {
      const value = valueAt(points, at)
      lines.push(this.#line(`value ${className}`, name, value === null ? 'no data' : quantity(value, unit)))
    }
    const near = this.#marksNear(at)
    for (const mark of near.slice(0, MARKS_TOLD_MAX)) {
      const lasted = mark.lasts > 0 ? `, for ${quantity(mark.lasts, 'ms')}` : ''
      const className = `mark ${mark.kind}${mark.failed ? ' failed' : ''}`
      lines.push(
        this.#line(
          className,
          mark.failed ? `${mark.kind} failed` : mark.kind,
          `${mark.text} (${seconds(mark.at)}${lasted})`,
        ),
      )
    }
    if (near.length > MARKS_TOLD_MAX)
      lines.push(element('div', 'more', `and ${near.length - MARKS_TOLD_MAX} more here`))
    return lines
  }

  #line(className: string, name: string, value: string): HTMLElement {
    const line = element('div', className)
    line.append(element('b', '', name), ' ', element('span', '', value))
    return line
  }

  /** Those at the cursor, nearest first, and those that last over it; of the steps only the one that goes on. */
  #marksNear(at: number): TimelineData['marks'][number][] {
    const reach = NEAR_PX / this.#scale
    const step = this.#data.marks.findLast((mark) => mark.kind === 'step' && mark.at <= at)
    const others = this.#data.marks.filter(
      (mark) => mark.kind !== 'step' && mark.at - reach <= at && mark.at + mark.lasts + reach >= at,
    )
    others.sort((a, b) => Math.abs(a.at - at) - Math.abs(b.at - at))
    return [...(step === undefined ? [] : [step]), ...others]
  }
}

for (const figure of document.querySelectorAll<HTMLElement>('figure.run-timeline')) {
  const svg = figure.querySelector<SVGSVGElement>('svg.timeline')
  const data = figure.querySelector('script[type="application/json"]')
  if (svg !== null && data !== null) new Timeline(figure, svg, JSON.parse(data.textContent) as TimelineData)
}

// What is folded away is not printed: who prints wants all of it.
addEventListener('beforeprint', () => {
  for (const details of document.querySelectorAll('details')) details.open = true
})
