"""The page of an experiment: every repeat a dot, names inside the plot, no number where there is none."""

import re
from pathlib import Path
from typing import Any

import pytest
from color_world import color_config
from reported_run import summary
from test_report import Tags, html

from hyperface import config as configuration
from hyperface.errors import RunError
from hyperface.report import plots
from hyperface.report.experiment import render, write_experiment
from hyperface.run import Run, open_run
from hyperface.run.names import EXPERIMENT, REPORT

CONFIG = configuration.load("jobs/configs/toy_experiment.yaml", ["run.dir=somewhere"])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(color_config(tmp_path / "run"))


def page(run: Run, found: dict[str, Any]) -> str:
    run.put_json(EXPERIMENT, found)
    write_experiment(run)
    return html(run)


def test_every_repeat_of_every_arm_is_a_dot_and_its_mean_in_the_table(run: Run) -> None:
    found = summary(CONFIG, {"diverse-alpha-1-steps-20": 0.9}, repeats=3)
    source = page(run, found)
    arms = len(found["arms"])
    assert source.count("<circle") == 3 * 3 * arms
    assert source.count('class="bar ') == 3 * arms
    assert ">91.00 ± 1.00</td>" in source  # 0.90, 0.91, 0.92
    assert "HyperFace, alpha 1, 20 steps diverse toy_render: 91.00 ± 1.00" in source
    assert "A dot is a repeat, a bar the mean of them." in source
    assert source.count('role="img"><title>Accuracy in percent') == 3


def test_one_repeat_has_no_bar_and_no_deviation(run: Run) -> None:
    source = page(run, summary(CONFIG, {"uniform": 0.7}, repeats=1))
    assert "<circle" in source
    assert 'class="bar ' not in source
    assert ">70.00</td>" in source


def test_a_number_that_is_missing_is_a_dash(run: Run) -> None:
    found = summary(CONFIG, {})
    found["arms"][0]["identity"]["equal_error_rate"] = {"mean": None, "deviation": None, "values": [None, 0.1]}
    assert '<td class="number">–</td>' in page(run, found)


def test_names_of_rows_end_before_the_plot_and_begin_inside_it() -> None:
    row = plots.Row("a name of far too many letters to be set", "tone-a", [1.0, 2.0])
    svg = plots.dots("title", [plots.Group("group", [row])], "percent")
    found = re.search('class="tick end" x="(.*?)" y=".*?">(.*?)</text>', svg)
    assert found
    assert len(found[2]) == 24
    assert found[2].endswith("…")
    assert float(found[1]) >= 24 * 10  # the widest letters that the page sets


def test_what_the_values_are_held_against_is_inside_the_plot() -> None:
    svg = plots.dots("title", [plots.Group("group", [plots.Row("row", "tone-a", [3.0])])], "ratio", rule=1.0)
    rule = re.search('class="rule" d="M([0-9.]+) ', svg)
    dot = re.search('cx="([0-9.]+)"', svg)
    assert rule
    assert dot
    assert 0 < float(rule[1]) < float(dot[1]) < plots.WIDTH


def test_markup_in_a_summary_is_shown_not_obeyed() -> None:
    found = summary(CONFIG, {})
    bad = "<script>alert(1)</script>"
    for arm in found["arms"]:
        arm["label"] = bad
    found["provenance"] = {bad: bad}
    source = render(f"/runs/{bad}", found)
    assert "<script" not in source
    assert all((attributes.get("src") or "data:").startswith("data:") for _, attributes in Tags(source).found)
    assert render(f"/runs/{bad}", found) == source


@pytest.mark.parametrize(
    ("content", "why"), [(b"{", "is no JSON"), (b"{}", "has no 'arms'"), (b"[]", "is no JSON object")]
)
def test_a_summary_that_cannot_be_drawn_is_named(run: Run, content: bytes, why: str) -> None:
    run.store.put(EXPERIMENT, content)
    with pytest.raises(RunError, match=rf"{EXPERIMENT}.*{why}"):
        write_experiment(run)
    assert not run.store.exists(REPORT)
