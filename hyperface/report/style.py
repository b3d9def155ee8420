"""The report's style sheet: one column of text, two of plots, light and dark, narrow and printed."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #faf9f6; --card: #ffffff; --ink: #1c2024; --soft: #5b626b; --line: #e3e0d8; --grid: #edebe4;
  --a: #0d7268; --b: #b4541a; --c: #4a5fa8; --muted: #7b828b; --fill: 0.22;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131518; --card: #1a1d21; --ink: #e9e7e2; --soft: #a2a9b2; --line: #2d3238; --grid: #262a30;
    --a: #52bdae; --b: #e5975a; --c: #94a8ee; --muted: #8d949e; --fill: 0.28;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "Liberation Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
main, header, footer { max-width: 1120px; margin: 0 auto; padding: 0 32px; }
header { padding-top: 56px; }
h1 { font-size: 40px; line-height: 1.15; letter-spacing: -0.022em; margin: 6px 0 14px; overflow-wrap: anywhere; }
h2 { font-size: 25px; line-height: 1.25; letter-spacing: -0.014em; margin: 0 0 6px; }
h3 { font-size: 16px; line-height: 1.35; margin: 0 0 4px; overflow-wrap: anywhere; }
p { margin: 0 0 12px; max-width: 72ch; }
section { margin-top: 64px; }
section > p { color: var(--soft); }
a { color: inherit; text-decoration-color: var(--muted); text-underline-offset: 2px; }
a:hover { color: var(--a); }
code, pre, .path { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
code, .path { font-size: 0.875em; overflow-wrap: anywhere; }
.eyebrow { color: var(--a); font-size: 14px; font-weight: 600; letter-spacing: 0.01em; margin: 0; }
.lead { font-size: 19px; line-height: 1.5; max-width: 62ch; }
.path { color: var(--soft); margin: 0; max-width: none; }
.source { color: var(--soft); font-size: 13px; }

.tiles {
  display: grid; grid-template-columns: repeat(4, 1fr); gap: 1px; margin: 36px 0 0;
  background: var(--line); border: 1px solid var(--line); border-radius: 10px; overflow: hidden;
}
.tiles > div { background: var(--card); padding: 18px 20px 16px; display: flex; flex-direction: column; }
.tiles dt { font-size: 14px; color: var(--soft); line-height: 1.35; }
.tiles dd { margin: 0; }
.tiles .value { font-size: 31px; line-height: 1.25; font-weight: 600; letter-spacing: -0.02em; margin: 4px 0 6px; }
.tiles .value small { font-size: 16px; font-weight: 400; letter-spacing: 0; color: var(--soft); }
.tiles .was { color: var(--muted); font-weight: 400; }
.tiles .source { line-height: 1.4; }

.identity { display: grid; grid-template-columns: 184px 1fr; gap: 0 20px; align-items: center; }
.identity { margin: 0; padding: 8px 0; }
.identity + .identity { border-top: 1px solid var(--grid); }
.identity figcaption { font-size: 13px; line-height: 1.45; color: var(--soft); }
.identity figcaption b { display: block; font-size: 16px; color: var(--ink); }
.faces { display: flex; flex-wrap: wrap; gap: 12px; }
.face { width: 96px; height: 96px; border-radius: 5px; display: block; object-fit: cover; background: var(--grid); }
.missing {
  border: 1px dashed var(--muted); background: none; color: var(--soft);
  font-size: 13px; display: flex; align-items: center; justify-content: center;
}
.grid { margin: 20px 0 0; border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); }
.alike { display: grid; grid-template-columns: repeat(4, 1fr); gap: 24px 20px; margin: 20px 0 0; }
.alike figure { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.alike .faces { flex-wrap: nowrap; gap: 4px; }
.alike figcaption { font-size: 13px; line-height: 1.45; color: var(--soft); margin-top: 6px; }
.alike figcaption b { color: var(--ink); }

.apart { margin-top: 40px; }
section > .apart + p { color: var(--soft); }
.notes { margin-top: 20px; padding: 14px 20px; background: var(--card); border: 1px solid var(--line); }
.notes { border-radius: 10px; }
.notes ul { margin: 0; padding-left: 20px; font-size: 15px; color: var(--soft); overflow-wrap: anywhere; }

.plots { display: grid; grid-template-columns: 1fr 1fr; gap: 40px 32px; margin-top: 28px; }
.plots figure { margin: 0; min-width: 0; }
.plots svg { display: block; width: 100%; height: auto; margin: 8px 0; overflow: visible; }
.plots > .table { margin-top: 0; }
.plots .wide { grid-column: 1 / -1; display: grid; grid-template-columns: minmax(0, 640px) 1fr; column-gap: 40px; }
.plots .wide figcaption { grid-column: 1 / -1; }
.plots .wide p { align-self: end; padding-bottom: 12px; }
.plots p { font-size: 14px; line-height: 1.5; color: var(--soft); margin: 0; }
svg text { font-size: 14px; fill: var(--soft); }
svg .label { font-weight: 600; }
svg .end { text-anchor: end; }
svg .middle { text-anchor: middle; }
svg .gridline { stroke: var(--grid); }
svg .axis { stroke: var(--muted); }
svg .line { fill: none; stroke-width: 2.25; stroke-linejoin: round; }
svg .line.dashed { stroke-dasharray: 7 4; }
svg .rule { stroke: var(--muted); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .mean { stroke-width: 1.5; }
svg .bar { stroke-width: 2.5; }
svg .dot { stroke-width: 1.25; fill-opacity: 0.4; }
svg .area { stroke-width: 1.5; fill-opacity: var(--fill); }
svg .tone-a { stroke: var(--a); } svg .area.tone-a, svg .dot.tone-a, svg .label.tone-a { fill: var(--a); }
svg .tone-b { stroke: var(--b); } svg .area.tone-b, svg .dot.tone-b, svg .label.tone-b { fill: var(--b); }
svg .tone-c { stroke: var(--c); } svg .area.tone-c, svg .dot.tone-c, svg .label.tone-c { fill: var(--c); }
svg .tone-muted { stroke: var(--muted); }
svg .area.tone-muted, svg .dot.tone-muted, svg .label.tone-muted { fill: var(--muted); }
svg text.label { stroke: var(--paper); stroke-width: 5px; stroke-linejoin: round; paint-order: stroke; }

.table { overflow-x: auto; margin-top: 28px; container-type: inline-size; }
table { border-collapse: collapse; width: 100%; font-size: 15px; }
caption { text-align: left; font-weight: 600; padding-bottom: 8px; }
caption span { display: block; font-weight: 400; font-size: 14px; color: var(--soft); }
caption span { position: sticky; left: 0; max-width: min(100%, 100cqw); }
th, td { text-align: left; vertical-align: baseline; padding: 7px 16px 7px 0; border-top: 1px solid var(--line); }
thead th { font-size: 13px; font-weight: 600; color: var(--soft); border-top: 0; }
tbody th { font-weight: 400; min-width: 10rem; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; white-space: nowrap; }
tr > :last-child { padding-right: 0; }
th small, td small { display: block; font-size: 13px; line-height: 1.4; color: var(--soft); white-space: normal; }
td .bar { display: block; height: 9px; min-width: 2px; background: var(--a); border-radius: 2px; }
td:has(.bar) { width: 34%; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0 48px; align-items: start; }
.pair > * { min-width: 0; }

details { margin-top: 28px; border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); }
.alike + details, .table + details { margin-top: 24px; }
details + details { margin-top: 0; border-top: 0; }
details .alike { margin: 8px 0 24px; }
summary { cursor: pointer; padding: 12px 0; font-weight: 600; }
pre { margin: 0 0 16px; font-size: 13px; line-height: 1.5; overflow-x: auto; }
footer { margin-top: 64px; padding-bottom: 56px; color: var(--soft); font-size: 14px; }
:focus-visible { outline: 2px solid var(--a); outline-offset: 2px; }

@media (max-width: 1000px) {
  .tiles { grid-template-columns: 1fr 1fr; }
  .identity { grid-template-columns: 1fr; gap: 8px; }
  .identity figcaption b { display: inline; margin-right: 10px; }
  .identity figcaption br { display: none; }
  .alike { grid-template-columns: repeat(3, 1fr); }
}
@media (max-width: 720px) {
  main, header, footer { padding-left: 20px; padding-right: 20px; }
  header { padding-top: 32px; }
  h1 { font-size: 30px; }
  h2 { font-size: 22px; }
  .lead { font-size: 17px; }
  section { margin-top: 48px; }
  .tiles > div { padding: 14px 14px 12px; }
  .tiles .value { font-size: 25px; }
  .plots, .pair, .plots .wide { grid-template-columns: 1fr; }
  .faces { display: grid; grid-template-columns: repeat(4, 1fr); gap: 6px; }
  .face { width: 100%; height: auto; aspect-ratio: 1; }
  .alike { grid-template-columns: 1fr 1fr; }
  .alike .faces { grid-template-columns: 1fr 1fr; }
  svg text { font-size: 17px; }
  table { font-size: 14px; }
  td:has(.bar) { width: 20%; }
}
@media print {
  :root {
    --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --grid: #ddd;
    --a: #0d7268; --b: #b4541a; --c: #4a5fa8; --muted: #666; --fill: 0.22;
  }
  body { font-size: 10.5pt; }
  main, header, footer { max-width: none; padding: 0; }
  section { margin-top: 28pt; }
  figure, tr, .tiles > div { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; }
  .face { width: 66px; height: 66px; }
  .faces { gap: 6px; }
  .tiles, .face, .bar { print-color-adjust: exact; }
}
"""
