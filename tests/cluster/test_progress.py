"""Lines that a person reads while a dataset is made, and metrics that Prometheus reads."""

import io
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from color_world import color_config, references
from scraping import found_by_prometheus
from small_stage import start, synthesize

from cluster import progress
from cluster.packing import pack_stage
from cluster.progress import Numbers, Tally, line, reported
from hyperface.faces.embeddings import Embeddings, to_parquet
from hyperface.run import open_run
from hyperface.run.names import GALLERY

ODD = 'läuft 😀 100%/of "this" \\run'
"""A run directory that Ray's labels cannot hold as it is."""


def row(rows: int, rejects: int = 0, **refused: int) -> dict[str, Any]:
    return {"shard": 0, "rows": rows, "rejects": rejects, "refused": refused}


def test_the_line_says_what_is_done_how_fast_and_what_went_wrong():
    tally = Tally(shards=10, shards_before=4, images_todo=60)
    tally.add(row(9, 1, cosine=3, error=1), planned=10, seconds=5.0)
    tally.add(row(10, cosine=2), planned=10, seconds=10.0)
    tally.add({"shard": 7, "failed": "broken"}, planned=10, seconds=11.0)
    tally.add({"shard": 8, "quarantined": "begun 3 times"}, planned=10, seconds=12.0)
    tally.deaths = 3
    assert line(tally.numbers(seconds=20.0)) == (
        "synthesize: 6/10 shards, 1 failed, 1 quarantined, 3 actor deaths, 1.3 images/s (0.95 overall), ETA 0:00:16, "
        "1 rejects, refused: 5 cosine 1 error"
    )


def test_before_the_first_shard_the_time_left_is_not_known_and_after_the_last_it_is_nothing():
    tally = Tally(shards=2, shards_before=0, images_todo=16)
    assert line(tally.numbers(30.0)) == "synthesize: 0/2 shards, ETA unknown, 0 rejects"
    tally.add(row(8), 8, 40.0)
    tally.add(row(8), 8, 50.0)
    assert tally.numbers(50.0).eta_seconds == 0
    assert Tally(shards=2, shards_before=2, images_todo=0).numbers(0.0).eta_seconds == 0


def test_the_time_left_follows_the_recent_rate_and_grows_when_nothing_finishes():
    tally = Tally(shards=1000, shards_before=0, images_todo=8000)
    for shard in range(100):
        tally.add(row(8), 8, 10.0 * (shard + 1))
    for shard in range(progress.RECENT):
        tally.add(row(8), 8, 1000.0 + shard + 1)
    now = tally.numbers(1000.0 + progress.RECENT)
    assert now.recent_images_per_second == pytest.approx(8.0)
    assert now.images_per_second < 1.0
    assert now.eta_seconds == pytest.approx((8000 - 960) / 8.0)
    soon = tally.numbers(1000.9 + progress.RECENT)
    assert soon.eta_seconds == now.eta_seconds  # the next one is not late yet
    later = tally.numbers(1001.0 + 2 * progress.RECENT)
    assert later.eta_seconds == pytest.approx(2 * (8000 - 960) / 8.0)


class Screen(io.StringIO):
    """A stream where lines go; a terminal or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


class Kept:
    """Metrics that are kept."""

    def __init__(self) -> None:
        self.seen: list[Numbers] = []

    def __call__(self, numbers: Numbers) -> None:
        self.seen.append(numbers)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_has_a_bar_and_a_log_lines_and_both_get_the_last_one(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
):
    for name, seconds in (("METRIC_SECONDS", 0.01), ("LOG_SECONDS", 1e9)):
        monkeypatch.setattr(progress, name, seconds)
    screen, kept, tally = Screen(terminal), Kept(), Tally(2, 0, 16)
    monkeypatch.setattr(sys, "stdout", screen)
    with reported(lambda: tally.numbers(1.0), kept):
        while len(kept.seen) < 20:
            time.sleep(0.01)
        tally.add(row(8), 8, 0.5)
    lines = screen.getvalue().splitlines()
    assert "synthesize: 1/2 shards" in lines[-1]
    assert (screen.getvalue().count("\r") > 2) == terminal
    assert kept.seen[-1].shards_done == 1


@pytest.mark.usefixtures("ray_cluster")
def test_prometheus_finds_the_same_numbers_on_the_nodes_port(tmp_path: Path):
    run = start(tmp_path / ODD)
    synthesize(run)
    wanted = {
        "shards": 4.0,
        "shards_done": 4.0,
        "shards_failed": 0.0,
        "shards_quarantined": 0.0,
        "images_left": 0.0,
        "images_rejected": 0.0,
        "actor_deaths": 0.0,
        "eta_seconds": 0.0,
        "images_total": 30.0,
        "refused_total": float(run.get_json("dataset/index.json")["redraws"]),
    }
    assert found_by_prometheus(run, "synthesis", wanted)["images_per_second"] > 0


@pytest.mark.usefixtures("ray_cluster")
def test_prometheus_and_a_curve_show_the_steps_of_a_packing(tmp_path: Path):
    run = open_run(color_config(tmp_path / ODD, "packing.steps=5", "cluster.tensorboard=true"))
    faces = Embeddings([f"face-{i}" for i in range(20)], references(20))
    run.store.put(GALLERY, to_parquet("key", faces))
    pack_stage(run)
    last = run.records("packing")[-1]
    names = ("loss", "max_cosine", "mean_nearest_cosine", "mean_gallery_cosine")
    wanted = {"steps": 5.0, "steps_done": 5.0, "eta_seconds": 0.0, **{name: last[name] for name in names}}
    assert found_by_prometheus(run, "packing", wanted)["steps_per_second"] > 0
    (curve,) = run.store.list("tensorboard/packing")
    assert b"max_cosine" in run.store.read(curve)
