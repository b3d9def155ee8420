"""How traits are spread over the dataset, as the audit recorded it: beside the gallery's, and within groups."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hyperface.report import elements as e
from hyperface.report.plots import Group, Row, dots
from hyperface.run.names import AUDIT

MOST_ROWS = 12
MOST_VALUES = 4
"""Most frequent values of a label that are named."""

Record = Mapping[str, Any]
Columns = Sequence[tuple[str, Record]]


def section(found: Record, networks: Mapping[str, str]) -> str:
    """The section of `attributes` in the audit's record.

    Args:
        networks: {name: in words}, the one whose word counts for more first.
    """
    columns = sorted(found["columns"].items())
    compared = [(name, c) for name, c in columns if c.get("std_ratio")]
    alone = [(n, c) for n, c in columns if not c.get("std_ratio") and c["dataset"] and c["dataset"]["kind"] == "number"]
    texts = [(name, c["dataset"]) for name, c in columns if c["dataset"] and c["dataset"]["kind"] == "text"]
    parts = [_compared(compared)] if compared else []
    parts += [_alone(alone)] if alone else []
    parts += [_labels(texts)] if texts else []
    parts += [_groups(found["groups"], networks)] if any(found["groups"].values()) else []
    return f"""<section>
<h2>Audit: how are traits spread?</h2>
<p>{len(columns)} attributes of each {e.text(found["unit"])}, by {e.text(found["source"])}. What a model reads from a
picture is its opinion: compare it with the same model’s on the gallery, and take neither for the truth about people.
Record: {e.record(AUDIT)}.</p>
{"".join(parts)}
</section>"""


def _compared(columns: Columns) -> str:
    shown = sorted(columns, key=lambda column: (-abs(math.log(column[1]["std_ratio"])), column[0]))[:MOST_ROWS]
    shown = sorted(shown, key=lambda column: (column[1]["std_ratio"], column[0]))
    narrow = [Row(name, "tone-b", [c["std_ratio"]]) for name, c in shown if c["std_ratio"] < 1]
    wide = [Row(name, "tone-a", [c["std_ratio"]]) for name, c in shown if c["std_ratio"] >= 1]
    headings = (("Narrower than the gallery", narrow), ("As wide, or wider", wide))
    groups = [Group(heading, rows) for heading, rows in headings if rows]
    ratios = "; ".join(f"{name} {c['std_ratio']:.2f}" for name, c in shown)
    svg = dots(f"Standard deviation as a share of the gallery's: {ratios}", groups, "spread, gallery = 1", rule=1.0)
    rule = (
        f"The {len(shown)} of {len(columns)} attributes whose spread differs most from the gallery’s."
        if len(columns) > len(shown)
        else "All attributes that the gallery has, too."
    )
    figure = e.figure("Spread beside the gallery’s", svg, f"{rule} Record: {e.record(AUDIT)}.")
    rows = [
        [
            e.text(name),
            e.cosine(c["gallery"]["std"], 2),
            e.cosine(c["dataset"]["std"], 2),
            f"× {c['std_ratio']:.2f}",
            e.cosine(c["mean_shift"], 2),
        ]
        for name, c in shown
    ]
    note = f"Standard deviations; shift of the mean in those of the gallery. Record: {e.record(AUDIT)}"
    head = ["Attribute", "Gallery", "Dataset", "Spread", "Shift"]
    return f'<div class="plots">{figure}{e.table("The same in numbers", note, head, rows, range(1, 5))}</div>'


def _alone(columns: Columns) -> str:
    rows = [
        [e.text(name), e.count(d["count"]), *(e.cosine(v) for v in (d["mean"], d["std"])), *_ends(d)]
        for name, c in columns[:MOST_ROWS]
        for d in [c["dataset"]]
    ]
    note = f"{_first(columns, 'attributes')} Record: {e.record(AUDIT)}"
    head = ["Attribute", "Counted", "Mean", "Std", "1 %", "Median", "99 %"]
    return e.table("Attributes that the gallery does not have", note, head, rows, range(1, 7))


def _ends(d: Record) -> list[str]:
    return [e.cosine(d["quantiles"][q]) for q in ("0.01", "0.5", "0.99")]


def _first(rows: Sequence[Any], what: str) -> str:
    return f"The first {MOST_ROWS} of {len(rows)} {what} by name." if len(rows) > MOST_ROWS else f"All {what}."


def _labels(texts: Columns) -> str:
    rows = []
    for name, d in texts[:MOST_ROWS]:
        values = sorted(d["counts"].items(), key=lambda item: (-item[1], item[0]))
        named = ", ".join(f"{value} {e.percent(n / d['count'], 1)} %" for value, n in values[:MOST_VALUES])
        left = f", {e.count(len(values) - MOST_VALUES)} more" if len(values) > MOST_VALUES else ""
        numbers = [e.count(d["count"]), e.count(len(values)), f"{d['evenness']:.2f}"]
        rows.append([e.text(name), *numbers, e.text(named + left)])
    note = (
        "Evenness: entropy as a share of that of equally frequent values, over the values seen: 1 when those are "
        "equally frequent, whoever is missing, and 0 when there is one. "
        f"{_first(texts, 'labels')} Record: {e.record(AUDIT)}"
    )
    return e.table("Labels", note, ["Label", "Counted", "Values", "Evenness", "Most frequent"], rows, range(1, 4))


def _groups(groups: Record, networks: Mapping[str, str]) -> str:
    """Separation within groups, as the network whose word counts for more sees it."""
    by = next(name for name in networks if all(name in of for of in groups.values()))
    every = [(name, group, g) for name, of in sorted(groups.items()) for group, g in of[by]["groups"].items()]
    measured = [row for row in every if row[2]["mean_nearest"] is not None]
    shown = sorted(measured, key=lambda row: (-row[2]["mean_nearest"], row[0], row[1]))[:MOST_ROWS]
    near = [e.NONE if g["near_another"] is None else f"{e.percent(g['near_another'], 1)} %" for _, _, g in shown]
    rows = [
        [e.text(name), e.text(group), e.count(g["identities"]), e.cosine(g["mean_nearest"]), share]
        for (name, group, g), share in zip(shown, near, strict=True)
    ]
    unmeasured = len(every) - len(measured)
    most = (
        f"The {len(shown)} of {len(measured)} groups whose identities are most alike. " if measured[MOST_ROWS:] else ""
    )
    alone = f"Groups of one identity, without a pair: {unmeasured}. " if unmeasured else ""
    note = (
        f"Centres of the identities of a group, by the {networks[by]}. Near another: share with one at the "
        f"threshold. A larger group is more crowded: compare groups of one size. {most}{alone}Record: {e.record(AUDIT)}"
    )
    head = ["Attribute", "Group", "Identities", "Cosine to the nearest, mean", "Near another"]
    return e.table("Identities within a group", note, head, rows, range(2, 5)) if rows else ""
