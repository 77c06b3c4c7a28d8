/** The style of the page: paper and ink by day and by night, and a colour for each meaning. */

/** Names of colours and no more, so that both modes stand side by side. */
const LIGHT = `
--paper:#faf9f6;--card:#fff;--ink:#1d2126;--soft:#5b636d;--rule:#e2dfd8;--band:#efece5;--band2:#e6e2d9;
--good:#12704a;--good-soft:#e2f2e9;--bad:#b3261e;--bad-soft:#fbe7e4;--warn:#8a5a00;--warn-soft:#fbf0d9;
--rate0:#1f66c2;--rate1:#0b8597;--rate2:#5f6bc9;--time0:#8449b8;--time1:#b5489a;--time2:#5b4bb5;--count0:#7a6a1f;--count1:#4f7a1f;--count2:#7a4a1f;
--fault:#cc4a0a;--remap:#0d7d62;--kill:#1d2126;--restart:#1f66c2;--event:#5b636d;--note:#5b636d;--outage:#cc4a0a`
const DARK = `
--paper:#14171a;--card:#1b1f24;--ink:#e9e7e2;--soft:#a3abb5;--rule:#2f353c;--band:#262c33;--band2:#303740;
--good:#5fcb98;--good-soft:#173428;--bad:#ff8a7a;--bad-soft:#3d1f1c;--warn:#e9b95a;--warn-soft:#3a2f17;
--rate0:#6aa9ff;--rate1:#4cc9d9;--rate2:#9aa4ff;--time0:#c493f2;--time1:#f08fd4;--time2:#a79bff;--count0:#d3c06a;--count1:#a3cf6a;--count2:#d9a06a;
--fault:#ff8a4c;--remap:#45cfa8;--kill:#f4f2ed;--restart:#6aa9ff;--event:#a3abb5;--note:#a3abb5;--outage:#ff8a4c`

const COLOURS = `:root{${LIGHT};color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{${DARK}}}`

/** What the timeline needs, wherever it stands. */
const TIMELINE = `
.timeline text{font-size:12px;fill:var(--soft)}
.timeline .labels text:not(.step){paint-order:stroke;stroke:var(--paper);stroke-width:4px;stroke-linejoin:round}
.timeline path{fill:none;vector-effect:non-scaling-stroke}
.timeline .lane{fill:var(--ink);font-weight:600}
.timeline .count{font-weight:600}
.timeline .tick,.timeline .unit,.ticks text{font-size:11px}
.ticks path{stroke:var(--rule)}
.timeline .grid,.timeline .row{stroke:var(--rule)}
.step.n0{fill:var(--band)}.step.n1{fill:var(--band2)}.timeline text.step{fill:var(--ink)}
.gap{fill:var(--soft);opacity:.16}
.outage{fill:var(--outage);opacity:.2}
.timeline .line{stroke:var(--c);stroke-width:1.6;stroke-linejoin:round;stroke-linecap:round}
.timeline .line.fine{stroke-width:1}
.timeline .area{fill:var(--c);opacity:.13}
.timeline .end{fill:var(--c);font-weight:600}
.rate.n0{--c:var(--rate0)}.rate.n1{--c:var(--rate1)}.rate.n2{--c:var(--rate2)}
.time.n0{--c:var(--time0)}.time.n1{--c:var(--time1)}.time.n2{--c:var(--time2)}
.count.n0{--c:var(--count0)}.count.n1{--c:var(--count1)}.count.n2{--c:var(--count2)}
.fault{--m:var(--fault)}.remap{--m:var(--remap)}.kill{--m:var(--kill)}.restart{--m:var(--restart)}.event{--m:var(--event)}.note{--m:var(--note)}.check{--m:var(--good)}.failed{--m:var(--bad)}
.timeline .rug{stroke:var(--m);stroke-width:2.5}
.timeline .rug.dense{stroke-width:2;opacity:.45}
.timeline .bar{fill:var(--m);opacity:.35}
.timeline path.kill{stroke:var(--kill);stroke-width:1.2;stroke-dasharray:3 3}
.timeline path.rug.kill{stroke-width:3;stroke-dasharray:none}
.timeline text.count,.timeline .labels text:not(.step){fill:var(--m)}
.cursor path{stroke:var(--ink);stroke-width:1}
.cursor rect{fill:var(--ink)}.timeline .cursor text{fill:var(--paper);font-size:11px;font-weight:600}
.selection{fill:var(--rate0);opacity:.18}
`.trim()

/** Of a timeline that stands alone. */
export const PICTURE_STYLE = `${COLOURS}
.paper{fill:var(--paper)}
${TIMELINE}`

export const STYLE = `
${COLOURS}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums}
main,footer{max-width:1180px;margin:0 auto;padding:0 32px}
main{padding-top:40px}
footer{color:var(--soft);font-size:13px;padding-bottom:40px}
h1,h2{font-size:30px;line-height:1.2;font-weight:650;letter-spacing:-.015em;margin:6px 0 20px;text-wrap:balance;max-width:32em;overflow-wrap:anywhere}
h2{font-size:24px}
a{color:inherit;text-decoration-color:var(--soft);text-underline-offset:3px}
code{font:13px ui-monospace,"SF Mono",Menlo,Consolas,monospace}
.meta{margin:0;color:var(--soft);font-size:14px;overflow-wrap:anywhere}
.name{color:var(--ink);font-weight:600}
.muted{color:var(--soft)}
.number{text-align:right;white-space:nowrap}
.badge{display:inline-block;padding:1px 10px 1px 8px;border-radius:999px;font-size:13px;font-weight:600;white-space:nowrap;margin-right:6px}
.badge.passed{background:var(--good-soft);color:var(--good)}
.badge.failed,.badge.broken{background:var(--bad-soft);color:var(--bad)}
.badge.expected{background:var(--warn-soft);color:var(--warn)}
header.page{margin-bottom:24px}
header.page h1{margin-bottom:4px}
.run{margin:0 0 28px}
.overview+.run,.run+.run{border-top:1px solid var(--rule);padding-top:36px;margin-top:44px}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;vertical-align:top;padding:9px 16px 9px 0;border-bottom:1px solid var(--rule);overflow-wrap:anywhere}
th:last-child,td:last-child{padding-right:0}
thead th{color:var(--soft);font-weight:500;font-size:13px;vertical-align:bottom}
tbody th{font-weight:500}
.number{overflow-wrap:normal}
.overview a{font-weight:600}
.overview td:nth-child(2){min-width:15em}
.promise{color:var(--soft);font-size:13px;overflow-wrap:anywhere}
.exceeded b{color:var(--bad)}
.quantity{white-space:nowrap}
.checks{table-layout:fixed}
.checks th:first-child{width:40%}
.checks thead th .badge{margin-left:6px}
.sign{display:inline-block;width:22px;font-weight:700}
.holds .sign{color:var(--good)}.lost .sign,.lost{color:var(--bad)}.lost.expected .sign,.lost.expected{color:var(--warn)}
.checks td{position:relative;padding-left:22px}.checks td .sign{position:absolute;left:0}
.checks td.muted,.checks thead th+th{padding-left:22px}
.error{border-left:3px solid var(--bad);background:var(--bad-soft);padding:10px 16px;margin:0 0 20px;border-radius:0 6px 6px 0}
.error p{margin:0 0 4px;font-weight:600;color:var(--bad)}
pre{margin:0;font:13px/1.45 ui-monospace,"SF Mono",Menlo,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere;max-height:22em;overflow:auto}
.measurements{display:grid;grid-template-columns:repeat(auto-fill,minmax(240px,1fr));gap:20px 40px;margin:28px 0 8px}
.measurements dt{color:var(--soft);font-size:13px}
.measurements dd{margin:0}
.measurements b{display:block;font-size:24px;font-weight:650;letter-spacing:-.01em;line-height:1.25}
.bullet{display:block;width:100%;height:10px;margin:5px 0 3px}
.bullet .room{fill:var(--band)}.bullet .value{fill:var(--good)}.exceeded .bullet .value{fill:var(--bad)}
.bullet path{stroke:var(--ink);stroke-width:2;vector-effect:non-scaling-stroke}
.limit,.without{color:var(--soft);font-size:13px}.without{float:right;color:var(--warn)}
figure{position:relative;margin:32px 0 0}
figcaption{display:flex;justify-content:space-between;align-items:center;gap:16px;font-weight:600;font-size:16px;margin-bottom:8px;min-height:30px}
.tools{display:flex;align-items:center;gap:6px;font-weight:400}
.tools[hidden]{display:none}
.hint{color:var(--soft);font-size:13px;margin-right:8px}
button{white-space:nowrap;font:13px system-ui,sans-serif;color:var(--ink);background:var(--card);border:1px solid var(--rule);border-radius:6px;padding:3px 10px;cursor:pointer}
button:hover{border-color:var(--soft)}
:focus-visible{outline:2px solid var(--rate0);outline-offset:2px;border-radius:4px}
.timeline:focus:not(:focus-visible){outline:none}
.scroll{overflow-x:auto}
.timeline{display:block;width:100%;min-width:620px;height:auto;cursor:crosshair;touch-action:pan-y;user-select:none}
${TIMELINE}
.tip{position:absolute;top:44px;max-width:min(380px,60%);background:var(--card);border:1px solid var(--rule);border-radius:8px;box-shadow:0 6px 24px rgb(0 0 0/.16);padding:9px 13px;font-size:13px;line-height:1.45;pointer-events:none;visibility:hidden;z-index:2;overflow-wrap:anywhere}
.tip.shown{visibility:visible}
.tip .when{font-weight:650}
.tip .value b{color:var(--c);font-weight:600}.tip .mark b{color:var(--m,var(--soft));font-weight:600}
.tip .more{color:var(--soft)}
.spoken{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
details{margin-top:18px}
summary{cursor:pointer;font-size:14px}
td details{margin:0}td pre{margin:6px 0 2px}
.marks{margin-top:8px}
.marks td{padding:3px 16px 3px 0;border:0;white-space:pre-wrap}
.marks th:first-child,.marks td:first-child{width:90px}.marks th:nth-child(2),.marks td:nth-child(2){width:110px}
.marks td:nth-child(2){color:var(--m,var(--soft));font-weight:600}
@media (max-width:720px){main,footer{padding-left:16px;padding-right:16px}main{padding-top:20px}.hint{display:none}h1{font-size:24px}.overview thead{display:none}.overview tr{display:block;border-bottom:1px solid var(--rule);padding:10px 0}.overview td{display:block;border:0;padding:1px 0;text-align:left}}
@media print{:root{${LIGHT};--paper:#fff}body{font-size:12px}main{padding-top:0;max-width:none}.tools,.tip{display:none!important}figure,tr,.measurements div{break-inside:avoid}.run{break-before:page}.run:first-child{break-before:auto}h1,h2,figcaption{break-after:avoid}pre{max-height:none}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
`.trim()
