"""Numbers and names are written like this on a page. Each function is a filter of the templates."""

import math
from collections.abc import Mapping
from typing import Any

from hyperface.dataset.export.measured import by_network

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"


def cosine(value: float | None, decimals: int = 3) -> str:
    return NONE if value is None else f"{value:.{decimals}f}".replace("-", MINUS)


def whole(value: int) -> str:
    """The thousands of a count are set apart by commas."""
    return f"{value:,}"


def percent(value: float | None, decimals: int = 2) -> str:
    """A share is written in percent, without the sign."""
    return NONE if value is None else f"{100 * value:.{decimals}f}"


def short(value: float) -> str:
    """A setting is written with as few digits as it has."""
    return f"{value:g}"


def short_percent(value: float) -> str:
    return f"{short(100 * value)} %"


def share(value: float | None) -> str:
    """A share is written in percent, or in powers of ten where two decimals would say 0."""
    if value is None:
        return NONE
    return f"{value:.1e}" if 0 < value < 5e-5 else f"{percent(value)} %"


def expected(pairs: float) -> str:
    """An expected number of pairs has a decimal while it is small."""
    return f"{pairs:,.0f}" if pairs >= 10 else f"{pairs:.1f}"


def far(rate: float) -> str:
    """A false accept rate that is a power of ten is written as the records name it."""
    return f"1e{round(math.log10(rate))}" if rate in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6) else f"{rate:g}"


def spread(measured: Mapping[str, Any]) -> str:
    """The mean of repeats is written in percent, with ± their standard deviation where there are several."""
    deviation = "" if measured["deviation"] is None else f" ± {percent(measured['deviation'])}"
    return f"{percent(measured['mean'])}{deviation}"


def size(value: int) -> str:
    """Bytes are written in decimal units."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.1f} {unit}"
    return f"{value} bytes"


def duration(seconds: float | None) -> str:
    """A time is written as 12.3 s, 4 min 05 s or 3 h 20 min."""
    if seconds is None:
        return "not recorded"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def speed(value: float | None, unit: str) -> str:
    """A speed is written as `12.3 images/s`."""
    if value is None:
        return NONE
    return f"{value:,.{0 if value >= 100 else 1 if value >= 1 else 3}f} {unit}/s"


def identity(key: str) -> int:
    """A key of the dataset begins with the number of its identity."""
    return int(key.partition("-")[0])


def place(key: str) -> str:
    """A key of the dataset is written as `Identity 12, image 3`."""
    return f"Identity {identity(key)}, image {int(key.partition('-')[2])}"


def table_name(table: str) -> str:
    """A table of real faces is called as the run knows it, or by its source."""
    return {"gallery": "the gallery", "packing.protected": "protected people"}.get(table, table)


def table_title(table: str) -> str:
    called = table_name(table)
    return table if called == table else called.capitalize()


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings become pairs of a dotted name and a value, in order; empty values are left out."""
    if isinstance(value, Mapping):
        return [pair for name, inner in value.items() for pair in flat(inner, f"{prefix}{name}.")]
    return [] if value in ("", None) else [(prefix.removesuffix("."), str(value))]


FILTERS = (
    *(cosine, whole, short, short_percent, percent, share, expected, far, spread, size, duration, speed),
    *(identity, place, table_name, flat, by_network),
)
