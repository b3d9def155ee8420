"""The audit recorded how attributes are spread over the dataset: beside the gallery's, and within groups."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hyperface.report.formats import percent
from hyperface.report.plots import Group, Row, dots

MOST_ROWS = 12
MOST_VALUES = 4
"""values of a label that are named, the most frequent ones"""

Record = Mapping[str, Any]
Columns = Sequence[tuple[str, Record]]


@dataclass(frozen=True)
class AttributesView:
    """`templates/attributes.html` shows all of this."""

    source: str
    unit: str
    columns: int
    compared: Columns
    """These are the attributes, of `all_compared`, whose spread differs most from the gallery's."""
    all_compared: int
    compared_svg: str
    alone: Columns
    """The gallery does not have these numbers."""
    labels: list[tuple[str, Record, str]]
    """(name, its values, the most frequent of them)"""
    groups: list[tuple[str, str, Record]]
    """(attribute, its value, identities that share it), the most alike first"""
    groups_by: str
    """Network that counts for more among those that saw every group."""
    unmeasured_groups: int


def view(found: Record, networks: Mapping[str, str]) -> AttributesView:
    """A reader sees this of `attributes` in the audit's record.

    Args:
        networks: {name: in words}, the one whose word counts for more first.
    """
    columns = sorted(found["columns"].items())
    compared = [(name, c) for name, c in columns if c.get("std_ratio")]
    known = [(name, c["dataset"]) for name, c in columns if c["dataset"] and not c.get("std_ratio")]
    by = next(name for name in networks if all(name in of for of in found["groups"].values()))
    groups = [(name, group, g) for name, of in sorted(found["groups"].items()) for group, g in of[by]["groups"].items()]
    measured = [row for row in groups if row[2]["mean_nearest"] is not None]
    shown = _most_different(compared)
    return AttributesView(
        source=found["source"],
        unit=found["unit"],
        columns=len(columns),
        compared=shown,
        all_compared=len(compared),
        compared_svg=_plot(shown) if shown else "",
        alone=[(name, d) for name, d in known if d["kind"] == "number"],
        labels=[(name, d, _most_frequent(d)) for name, d in known if d["kind"] == "text"],
        groups=sorted(measured, key=lambda row: (-row[2]["mean_nearest"], row[0], row[1])),
        groups_by=networks[by],
        unmeasured_groups=len(groups) - len(measured),
    )


def _most_different(columns: Columns) -> Columns:
    """Attributes are chosen whose spread differs most from the gallery's, and stand in the order of their spread."""
    shown = sorted(columns, key=lambda column: (-abs(math.log(column[1]["std_ratio"])), column[0]))[:MOST_ROWS]
    return sorted(shown, key=lambda column: (column[1]["std_ratio"], column[0]))


def _plot(shown: Columns) -> str:
    narrow = [Row(name, "tone-b", [c["std_ratio"]]) for name, c in shown if c["std_ratio"] < 1]
    wide = [Row(name, "tone-a", [c["std_ratio"]]) for name, c in shown if c["std_ratio"] >= 1]
    headings = (("Narrower than the gallery", narrow), ("As wide, or wider", wide))
    ratios = "; ".join(f"{name} {c['std_ratio']:.2f}" for name, c in shown)
    title = f"Standard deviation as a share of the gallery's: {ratios}"
    return dots(title, [Group(heading, rows) for heading, rows in headings if rows], "spread, gallery = 1", rule=1.0)


def _most_frequent(label: Record) -> str:
    values = sorted(label["counts"].items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{value} {percent(n / label['count'], 1)} %" for value, n in values[:MOST_VALUES])
    return f"{named}, {len(values) - MOST_VALUES:,} more" if len(values) > MOST_VALUES else named
