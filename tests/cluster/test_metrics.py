"""The metrics of every stage: named once, documented, drawn, and the same as what the stage records."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.metrics import COUNTERS, GAUGES, label, numbers
from hyperface.progress.meter import Point

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"ray_hyperface_[a-z_]+")
ROW = re.compile(r"ray_hyperface_(\{[a-z_,]+\}|" + "|".join(sorted(GAUGES, key=len, reverse=True)) + ")_(.+)")
DEFINED = {f"ray_hyperface_{stage}_{name}" for stage, found in GAUGES.items() for name in found} | {
    f"ray_hyperface_{stage}_{name}_total" for stage, found in COUNTERS.items() for name in found
}


def documented() -> Iterator[str]:
    """The metrics of the table: `ray_hyperface_STAGE_a`, `_b` of the stages `c` and `d`."""
    text = (ROOT / "cluster/README.md").read_text().partition("## Metrics")[2]
    for row in re.findall(r"^\| `ray_hyperface_.*?\|", text, re.MULTILINE):
        first, *others = re.findall(r"`([a-z_{},]+)`", row)
        stages, name = ROW.match(first).groups()
        for stage in stages.strip("{}").split(","):
            yield from (f"ray_hyperface_{stage}_{each.removeprefix('_')}" for each in (name, *others))


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((ROOT / "infra/grafana/hyperface.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_the_table_names_every_metric_that_there_is_and_no_other():
    found = list(documented())
    assert sorted(found) == sorted(DEFINED)


def test_the_dashboard_draws_every_metric_that_there_is_and_no_other():
    drawn = {name for panel in panels() for target in panel["targets"] for name in NAME.findall(target["expr"])}
    assert drawn == DEFINED


def test_every_panel_of_the_dashboard_is_of_the_chosen_runs_and_none_lies_on_another():
    assert all('{run=~"$run"}' in target["expr"] for panel in panels() for target in panel["targets"])
    assert len({panel["id"] for panel in panels()}) == len(panels())
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_a_point_is_shown_by_the_names_of_its_stages_gauges():
    assert numbers("steps", Point(0, 100)) == {"steps": 100, "steps_done": 0, "steps_per_second": 0.0}
    assert numbers("steps", Point(20, 100, {"loss": 2.0}, 9.5, 8.4)) == {
        "steps": 100,
        "steps_done": 20,
        "steps_per_second": 9.5,
        "eta_seconds": 8.4,
        "loss": 2.0,
    }


@pytest.mark.parametrize(
    ("run", "shown"),
    [
        ("s3://faces/runs/first_1.2-a", "s3://faces/runs/first_1.2-a"),
        ("/tmp/läuft 😀", "/tmp/l%C3%A4uft %F0%9F%98%80"),
        ("/tmp/l%C3%A4uft", "/tmp/l%25C3%25A4uft"),
        ("/tmp/a\nb\x00\udcff", "/tmp/a%0Ab%00%FF"),
        ("/" + 2000 * "ü", "/" + 2000 * "%C3%BC"),
    ],
)
def test_the_label_of_any_run_is_ascii_and_no_other_runs(run: str, shown: str):
    assert label(run) == shown
