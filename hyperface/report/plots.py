"""Plots are inline SVG, and equal data give equal bytes. Colours and type sizes come from the page's style sheet.

Units of the drawing are those of its viewBox, WIDTH x HEIGHT; the page scales it to the column.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 320
_LEFT, _BOTTOM = 86, 52
_LABEL_ROW = 24
_LETTER = 11
"""units: the width of a letter of a label, which the page may set at 17 in a wide font such as DejaVu Sans"""
_MOST_POINTS = 400
_ROW = 24
_ROW_LABEL, _ROW_LETTER = 24, 10
"""letters of the name of a line of `dots`; units: the width of each where the page sets them at 17"""
_START_LABEL = 16
"""letters that fit before the start of a line of `rates`"""


@dataclass(frozen=True)
class Curve:
    """A curve is a line through (x, y), labelled at its end."""

    label: str
    tone: str
    """classes of the style sheet: `tone-a`, `tone-b`, `tone-c` or `tone-muted`, and perhaps `dashed`"""
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Histogram:
    """A histogram has equal bins over [-1, 1], and is labelled at its mean."""

    label: str
    tone: str
    counts: Sequence[int]
    mean: float


@dataclass(frozen=True)
class Rule:
    """A rule is a labelled dashed line at one value: of the y axis in `curves`, of the x axis in `histograms`."""

    label: str
    value: float


@dataclass(frozen=True)
class Row:
    """A row holds repeats of one measurement."""

    label: str
    tone: str
    values: Sequence[float]


@dataclass(frozen=True)
class Group:
    """The rows of a group are compared with each other first."""

    label: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class _Frame:
    """A frame is the plotting area, and the data range that it shows."""

    left: float
    top: float
    right: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)


def curves(title: str, lines: Sequence[Curve], x_label: str, y_label: str, rule: Rule | None = None) -> str:
    """Lines are drawn over a common x, each labelled at its end."""
    values = [y for line in lines for y in line.y] + ([rule.value] if rule else [])
    steps = [x for line in lines for x in line.x]
    low, high = _padded(min(values), max(values))
    labels = [f"{line.label} {line.y[-1]:.3f}" for line in lines] + ([f"{rule.label} {rule.value:.3f}"] if rule else [])
    right = WIDTH - 8 - max(map(len, labels)) * _LETTER
    frame = _Frame(_LEFT, 16, right, HEIGHT - _BOTTOM, (min(steps), max(*steps, min(steps) + 1)), (low, high))
    parts = [*_y_axis(frame, percent=False), *_x_axis(frame, x_label), _y_label(frame.top, y_label)]
    ends: list[tuple[float, str, str]] = []
    for line, label in zip(lines, labels, strict=False):
        keep = range(0, len(line.x), -(-len(line.x) // _MOST_POINTS))
        kept = sorted({*keep, len(line.x) - 1})
        points = " ".join(f"{frame.x(line.x[i]):.1f},{frame.y(line.y[i]):.1f}" for i in kept)
        parts.append(f'<polyline class="line {line.tone}" points="{points}"/>')
        ends.append((frame.y(line.y[-1]), line.tone, label))
    if rule:
        at = frame.y(rule.value)
        parts.append(f'<path class="rule" d="M{frame.left:.1f} {at:.1f}H{frame.right:.1f}"/>')
        ends.append((at, "tone-muted", labels[-1]))
    for at, tone, label in _apart(ends, 20, frame.bottom):
        parts.append(f'<text class="label {tone}" x="{frame.right + 8:.1f}" y="{at + 5:.1f}">{escape(label)}</text>')
    return _svg(title, parts)


def rates(title: str, lines: Sequence[Curve], x_label: str, y_label: str) -> str:
    """Stairs are drawn over a logarithmic x that ends at 1, each labelled where it begins; the y axis is at the end.

    y holds from its x to the next one: between two rates that were measured nothing is claimed.
    """
    low, least = min(line.x[0] for line in lines), min(min(line.y) for line in lines)
    x_range, y_range = (min(math.log10(low), -0.5), 0.0), (min(math.floor(10 * least) / 10, 0.9), 1.0)
    labels = [shortened(line.label, _START_LABEL) for line in lines]
    frame = _Frame(max(map(len, labels)) * _LETTER + 12, 16, WIDTH - _LEFT, HEIGHT - _BOTTOM, x_range, y_range)
    parts, values = [], ticks(*y_range)
    for value in values:
        at, shown = frame.y(value), _percent(value, values)
        parts.append(f'<path class="gridline" d="M{frame.left:.1f} {at:.1f}H{frame.right:.1f}"/>')
        parts.append(f'<text class="tick" x="{frame.right + 8:.1f}" y="{at + 4.5:.1f}">{shown}</text>')
    for power in range(math.ceil(x_range[0] - 1e-9), 1):
        at, shown = frame.x(power), "1" if power == 0 else f"1e{power}"
        parts.append(f'<path class="gridline" d="M{at:.1f} {frame.top:.1f}V{frame.bottom:.1f}v5"/>')
        parts.append(f'<text class="tick middle" x="{at:.1f}" y="{frame.bottom + 21:.1f}">{shown}</text>')
    parts += _x_line(frame, x_label)
    parts += [f'<path class="line {line.tone}" d="{_stairs(frame, line)}"/>' for line in lines]
    starts = [(frame.y(line.y[0]), line.tone, label) for line, label in zip(lines, labels, strict=True)]
    for at, tone, label in _apart(starts, 20, frame.bottom):
        parts.append(f'<text class="label end {tone}" x="{frame.left - 8:.1f}" y="{at + 5:.1f}">{escape(label)}</text>')
    middle = (frame.top + frame.bottom) / 2
    turned = f'transform="translate({WIDTH - 6} {middle:.1f}) rotate(-90)"'
    parts.append(f'<text class="tick middle" {turned}>{escape(y_label)}</text>')
    return _svg(title, parts)


def shortened(label: str, letters: int) -> str:
    """A label keeps at most so many letters, the last an ellipsis where some are left out."""
    return label if len(label) <= letters else label[: letters - 1] + "\N{HORIZONTAL ELLIPSIS}"


def histograms(
    title: str,
    series: Sequence[Histogram],
    of: str,
    rule: Rule | None = None,
    x_range: tuple[float, float] | None = None,
) -> str:
    """Shares of `of` (pairs, images, ...) by cosine are drawn over each other, each normalised to 100 %."""
    bins = len(series[0].counts)
    shares = [[count / max(1, sum(s.counts)) for count in s.counts] for s in series]
    low, high = x_range or occupied_range([s.counts for s in series])
    rows = len(series) + (1 if rule else 0)
    highest = max(max(share) for share in shares)
    frame = _Frame(_LEFT, 10 + rows * _LABEL_ROW, WIDTH - 14, HEIGHT - _BOTTOM, (low, high), (0, highest * 1.04))
    parts = _y_axis(frame, percent=True)
    parts.append(_y_label(frame.top, f"share of {of}"))
    parts += [
        f'<path class="area {s.tone}" d="{_outline(frame, share)}"/>' for s, share in zip(series, shares, strict=True)
    ]
    parts += _x_axis(frame, _cosine_label(bins))
    marks = [(s.mean, f"{s.label}, mean {_signed(s.mean, 2)}", s.tone, "mean") for s in series]
    if rule:
        marks.append((rule.value, f"{rule.label} {_signed(rule.value, 2)}", "tone-muted", "rule"))
    baselines = [18 + row * _LABEL_ROW for row in range(rows)]
    # Every line before every label: a label's halo keeps it readable where a line crosses it.
    parts += [_mark_line(frame, at, *mark) for at, mark in zip(baselines, marks, strict=True)]
    parts += [_mark_label(frame, at, *mark) for at, mark in zip(baselines, marks, strict=True)]
    return _svg(title, parts)


def bands(title: str, series: Sequence[Histogram], of: str) -> str:
    """Shares of `of` by cosine are drawn below each other, on one cosine axis but each on a scale of its own."""
    low, high = occupied_range([s.counts for s in series])
    height = (HEIGHT - _BOTTOM) / len(series)
    parts = []
    for i, s in enumerate(series):
        share = [count / max(1, sum(s.counts)) for count in s.counts]
        y_range = (0, max(share) * 1.04)
        frame = _Frame(_LEFT, i * height + 30, WIDTH - 14, (i + 1) * height, (low, high), y_range)
        parts += _y_axis(frame, percent=True, most=3)
        parts.append(f'<path class="area {s.tone}" d="{_outline(frame, share)}"/>')
        parts.append(f'<path class="axis" d="M{frame.left:.1f} {frame.bottom:.1f}H{frame.right:.1f}"/>')
        mark = (s.mean, f"{s.label}, mean {_signed(s.mean, 2)}", s.tone, "mean")
        parts += [_mark_line(frame, frame.top - 10, *mark), _mark_label(frame, frame.top - 10, *mark)]
    parts += _x_axis(frame, _cosine_label(len(series[0].counts)))
    parts.append(_y_label(30, f"share of {of}"))
    return _svg(title, parts)


def dots(title: str, groups: Sequence[Group], x_label: str, rule: float | None = None) -> str:
    """Each row has a line, each value a dot, the mean of several a bar; rows stand in groups under a heading.

    Args:
        rule: what the values are held against, a dashed line.
    """
    rows = sum(len(group.rows) + 1 for group in groups)
    values = [value for group in groups for row in group.rows for value in row.values]
    values += [] if rule is None else [rule]
    height = rows * _ROW + 6 + _BOTTOM
    longest = max(len(shortened(row.label, _ROW_LABEL)) for group in groups for row in group.rows)
    x_range = _padded(min(values), max(values))
    frame = _Frame(longest * _ROW_LETTER + 16, 6, WIDTH - 14, rows * _ROW + 6, x_range, (0, 1))
    parts, at = [], frame.top
    for tick in ticks(*frame.x_range, most=5):
        parts.append(f'<path class="gridline" d="M{frame.x(tick):.1f} {frame.top:.1f}V{frame.bottom:.1f}"/>')
    if rule is not None:
        parts.append(f'<path class="rule" d="M{frame.x(rule):.1f} {frame.top:.1f}V{frame.bottom:.1f}"/>')
    for group in groups:
        parts.append(f'<text class="label" x="0" y="{at + _ROW - 7:.1f}">{escape(group.label)}</text>')
        at += _ROW
        for row in group.rows:
            middle, mean = at + _ROW / 2, sum(row.values) / len(row.values)
            label = escape(shortened(row.label, _ROW_LABEL))
            parts.append(f'<text class="tick end" x="{frame.left - 8:.1f}" y="{middle + 4.5:.1f}">{label}</text>')
            for x in map(frame.x, row.values):
                parts.append(f'<circle class="dot {row.tone}" cx="{x:.1f}" cy="{middle:.1f}" r="3.5"/>')
            if len(row.values) > 1:
                parts.append(f'<path class="bar {row.tone}" d="M{frame.x(mean):.1f} {middle - 9:.1f}v18"/>')
            at += _ROW
    parts += _x_axis(frame, x_label, height)
    return _svg(title, parts, height)


def occupied_range(counts: Sequence[Sequence[int]]) -> tuple[float, float]:
    """All histograms lie between these cosines, which are widened to tenths and to at least 0.2."""
    bins = len(counts[0])
    used = [i for i in range(bins) if any(c[i] for c in counts)]
    low = math.floor(10 * (used[0] * 2 / bins - 1) + 1e-9) / 10
    high = math.ceil(10 * ((used[-1] + 1) * 2 / bins - 1) - 1e-9) / 10
    if high - low < 0.2:
        low, high = (low - 0.1, high) if high >= 1 else (low, high + 0.1)
    return low, high


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Ticks are at most `most` round numbers in [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def _y_axis(frame: _Frame, percent: bool, most: int = 6) -> list[str]:
    parts, values = [], ticks(*frame.y_range, most=most)
    for value in values:
        at = frame.y(value)
        shown = _percent(value, values) if percent else _number(value, values)
        parts.append(f'<path class="gridline" d="M{frame.left:.1f} {at:.1f}H{frame.right:.1f}"/>')
        parts.append(f'<text class="tick end" x="{frame.left - 8:.1f}" y="{at + 4.5:.1f}">{shown}</text>')
    return parts


def _x_axis(frame: _Frame, label: str, height: float = HEIGHT) -> list[str]:
    parts, values = [], ticks(*frame.x_range, most=6)
    for value in values:
        at = frame.x(value)
        parts.append(f'<path class="axis" d="M{at:.1f} {frame.bottom:.1f}v5"/>')
        shown = _number(value, values)
        parts.append(f'<text class="tick middle" x="{at:.1f}" y="{frame.bottom + 21:.1f}">{shown}</text>')
    return parts + _x_line(frame, label, height)


def _x_line(frame: _Frame, label: str, height: float = HEIGHT) -> list[str]:
    middle = (frame.left + frame.right) / 2
    return [
        f'<path class="axis" d="M{frame.left:.1f} {frame.bottom:.1f}H{frame.right:.1f}"/>',
        f'<text class="tick middle" x="{middle:.1f}" y="{height - 8}">{escape(label)}</text>',
    ]


def _stairs(frame: _Frame, line: Curve) -> str:
    """The path leads from the start of a line to the end of the axis; x is logarithmic."""
    (x, y), *others = [(frame.x(math.log10(x)), frame.y(y)) for x, y in zip(line.x, line.y, strict=True)]
    return f"M{x:.1f} {y:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in others) + f"H{frame.right:.1f}"


def _cosine_label(bins: int) -> str:
    return f"cosine, in bins of {2 / bins:.2g}"


def _y_label(top: float, label: str) -> str:
    middle = (top + HEIGHT - _BOTTOM) / 2
    return f'<text class="tick middle" transform="translate(12 {middle:.1f}) rotate(-90)">{escape(label)}</text>'


def _outline(frame: _Frame, share: Sequence[float]) -> str:
    """The path is the closed stepped outline of a histogram over [-1, 1], cut to the frame."""
    width, (low, high) = 2 / len(share), frame.x_range
    inside = [i for i in range(len(share)) if low - 1e-9 <= i * width - 1 and (i + 1) * width - 1 <= high + 1e-9]
    path = [f"M{frame.x(inside[0] * width - 1):.1f} {frame.bottom:.1f}"]
    path += [f"V{frame.y(share[i]):.1f}H{frame.x((i + 1) * width - 1):.1f}" for i in inside]
    return "".join(path) + f"V{frame.bottom:.1f}Z"


def _mark_line(frame: _Frame, baseline: float, value: float, label: str, tone: str, kind: str) -> str:
    """The path is a vertical line at a value, from under its label down to the axis."""
    return f'<path class="{kind} {tone}" d="M{_inside(frame, value):.1f} {baseline + 5:.1f}V{frame.bottom:.1f}"/>'


def _mark_label(frame: _Frame, baseline: float, value: float, label: str, tone: str, kind: str) -> str:
    half = len(label) * _LETTER / 2
    at = min(max(_inside(frame, value), half + 26), WIDTH - half - 4)  # clear of the label of the y axis
    return f'<text class="label middle {tone}" x="{at:.1f}" y="{baseline:.1f}">{escape(label)}</text>'


def _inside(frame: _Frame, value: float) -> float:
    return frame.x(min(max(value, frame.x_range[0]), frame.x_range[1]))


def _apart(ends: list[tuple[float, str, str]], gap: float, lowest: float) -> list[tuple[float, str, str]]:
    """Labels are moved, in the order of their heights, so that each has `gap` to itself and none is below `lowest`."""
    ordered = sorted(ends)
    at = [y for y, _, _ in ordered]
    for i in range(1, len(at)):
        at[i] = max(at[i], at[i - 1] + gap)
    at[-1] = min(at[-1], lowest)
    for i in range(len(at) - 2, -1, -1):
        at[i] = min(at[i], at[i + 1] - gap)
    return [(y, tone, label) for y, (_, tone, label) in zip(at, ordered, strict=True)]


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = max(0.04 * (high - low), 0.01)
    return low - pad, high + pad


def _decimals(among: Sequence[float]) -> int:
    """Decimals are the fewest that write every tick exactly."""
    return next((d for d in range(6) if all(abs(round(t, d) - t) < 1e-9 for t in among)), 6)


def _signed(value: float, decimals: int) -> str:
    # Adding zero turns the -0.0 of a rounded small number into 0.0.
    return f"{round(value, decimals) + 0:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def _number(value: float, among: Sequence[float]) -> str:
    return f"{value:,.{_decimals(among)}f}".replace("-", "\N{MINUS SIGN}")


def _percent(value: float, among: Sequence[float]) -> str:
    return f"{100 * value:.{_decimals([100 * t for t in among])}f} %"


def _svg(title: str, parts: Sequence[str], height: float = HEIGHT) -> str:
    body = "\n".join(parts)
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img">'
    return f"{head}<title>{escape(title)}</title>\n{body}\n</svg>"
