"""Pieces of HTML: numbers, links to records, tables, tiles, faces. Every string that is given is escaped here."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"


def text(value: Any) -> str:
    """Any value as escaped text."""
    return escape(str(value))


def cosine(value: float | None, decimals: int = 3) -> str:
    return NONE if value is None else f"{value:.{decimals}f}".replace("-", MINUS)


def count(value: int) -> str:
    return f"{value:,}"


def percent(value: float | None, decimals: int = 2) -> str:
    """A share as a number of percent, without the sign."""
    return NONE if value is None else f"{100 * value:.{decimals}f}"


def far(rate: float) -> str:
    """A false accept rate: powers of ten as the records name them."""
    return f"1e{round(math.log10(rate))}" if rate in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6) else f"{rate:g}"


def size(value: int) -> str:
    """Bytes in decimal units."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.1f} {unit}"
    return f"{value} bytes"


def duration(seconds: float | None) -> str:
    """12.3 s, 4 min 05 s, 3 h 20 min."""
    if seconds is None:
        return "not recorded"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def rate(amount: float, seconds: float | None, unit: str) -> str:
    """`12.3 images/s`."""
    if not seconds:
        return NONE
    value = amount / seconds
    return f"{value:,.{0 if value >= 100 else 1 if value >= 1 else 3}f} {text(unit)}/s"


def record(name: str, label: str = "") -> str:
    """A link to a record of the run, from report/index.html: the label, or its name, which may break after a slash."""
    if label:
        return f'<a href="../{text(name)}">{text(label)}</a>'
    return f'<a href="../{text(name)}"><code>{text(name).replace("/", "/<wbr>")}</code></a>'


def tile(label: str, value: str, source: str) -> str:
    """One number, what it is, what measured it. `value` and `source` are HTML."""
    return f'<div><dt>{text(label)}</dt><dd class="value">{value}</dd><dd class="source">{source}</dd></div>'


def table(caption: str, note: str, head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    """A table whose first column names the row; `numbers` are the columns set flush right. Cells and note are HTML."""

    def kind(column: int) -> str:
        return ' class="number"' if column in numbers else ""

    top = "".join(f'<th scope="col"{kind(i)}>{text(name)}</th>' for i, name in enumerate(head))
    body = "\n".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td{kind(i)}>{cell}</td>" for i, cell in enumerate(row[1:], start=1))
        + "</tr>"
        for row in rows
    )
    label = f"{text(caption)}<span>{note}</span>" if note else text(caption)
    return (
        f'<div class="table" tabindex="0"><table><caption>{label}</caption>\n'
        f"<thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def figure(title: str, svg: str, caption: str, *, wide: bool = False) -> str:
    """A plot under its title; `caption` is HTML. A wide one has both columns."""
    place = ' class="wide"' if wide else ""
    return f"<figure{place}><figcaption><h3>{text(title)}</h3></figcaption>{svg}<p>{caption}</p></figure>"


def face(image: Mapping[str, Any]) -> str:
    """A face by its record {key, jpeg, cosine}."""
    return picture(image["jpeg"], f"{place(image['key'])}, cosine to reference {cosine(image['cosine'], 2)}")


def picture(jpeg: str | None, alt: str) -> str:
    """A picture by its base64 text; None: a cell that says that there is none."""
    if jpeg is None:
        return f'<div class="face missing" title="{text(alt)}">no picture</div>'
    source = f"data:image/jpeg;base64,{text(jpeg)}"
    return f'<img class="face" src="{source}" alt="{text(alt)}" title="{text(alt)}" width="96" height="96">'


def place(key: Any) -> str:
    """`Identity 12, image 3` of a key of the dataset."""
    identity, number = str(key).split("-")
    return f"Identity {int(identity)}, image {int(number)}"


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (dotted name, value) in order; empty values are left out."""
    if isinstance(value, Mapping):
        return [pair for name, inner in value.items() for pair in flat(inner, f"{prefix}{name}.")]
    return [] if value in ("", None) else [(prefix.removesuffix("."), str(value))]
