"""An estimate as a table that is read, and as JSON."""

import json
import textwrap
from datetime import timedelta

from hyperface.capacity.estimate import Estimate, Figure
from hyperface.capacity.rates import Rates

WIDTH = 118


def table(found: Estimate, rates: Rates) -> str:
    """Return a line for each figure, with its rule; then the warnings."""
    lines = [f"rates: {rates.source}" + (f", measured on {rates.device}" if rates.device else "")]
    stage = ""
    for figure in found.figures:
        part, _, what = figure.name.partition(".")
        if part != stage:
            stage = part
            lines.append(f"\n{stage}")
        head = f"  {what.replace('_', ' '):<18}{shown(figure):>16}   "
        lines += textwrap.wrap(head + figure.rule, WIDTH, subsequent_indent=" " * len(head), break_on_hyphens=False)
    lines += ["", *(f"warning: {warning}" for warning in found.warnings)] if found.warnings else []
    return "\n".join(lines)


def shown(figure: Figure) -> str:
    """A value as a person reads it."""
    value = figure.value
    match figure.unit:
        case "s":
            return f"{value:.3g} s" if value < 60 else str(timedelta(seconds=round(value)))
        case "B":
            power = min(4, max(0, (len(str(int(value))) - 1) // 3))
            return f"{value / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
        case "h":
            return f"{value:,.4g} GPU-h" if value < 1000 else f"{value:,.0f} GPU-h"
        case _:
            return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.2f}"


def to_json(found: Estimate, rates: Rates) -> str:
    """Return {"figures": {name: {value, unit, rule}}, "warnings": [...], "rates": {...}} as JSON."""
    figures = {f.name: {"value": f.value, "unit": f.unit, "rule": f.rule} for f in found.figures}
    measured = {"source": rates.source, "device": rates.device, "numbers": dict(rates.numbers)}
    return json.dumps({"figures": figures, "warnings": list(found.warnings), "rates": measured}, indent=1)
