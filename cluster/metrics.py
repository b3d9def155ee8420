"""Every metric of every stage, on Ray's metrics port: `ray_hyperface_STAGE_NAME`, with the label `run`."""

import string
from typing import Any
from urllib.parse import quote

import ray

from hyperface.progress.curves import Curves
from hyperface.progress.meter import Point, Watch, harmless, unwatched
from hyperface.run import Run

PLAIN = (string.punctuation + " ").replace("%", "")
"""Letters that a label shows as they are, besides letters and digits."""


def _of(units: str, **others: str) -> dict[str, str]:
    """Return what every stage has, and what it has besides."""
    return {
        units: f"{units.capitalize()} of the stage",
        f"{units}_done": f"{units.capitalize()} that are done",
        f"{units}_per_second": f"{units.capitalize()} per second, lately",
        "eta_seconds": "Seconds until the stage is done, at that rate",
        **others,
    }


_GROUP = {"worker_failures": "Times that the group of workers was lost and had to start again, in this job"}
_TRAINING = {
    "loss": "Mean loss since the point before",
    "learning_rate": "Learning rate of the last step",
    "images_per_second": "Images per second, in this job",
    **_GROUP,
}

GAUGES: dict[str, dict[str, str]] = {
    "embed": _of("chunks", faces="Faces embedded", faces_left_out="Faces that cannot be used"),
    "packing": _of(
        "steps",
        loss="Objective of the packing",
        max_cosine="Cosine of the closest pair of references",
        mean_nearest_cosine="Mean cosine of a reference and its nearest other one",
        mean_gallery_cosine="Mean cosine of a reference and its nearest gallery embedding",
        **_GROUP,
    ),
    "synthesis": {
        "shards": "Shards of the plan",
        "shards_done": "Shards that have their marker",
        "shards_failed": "Shards that failed in this job",
        "shards_quarantined": "Shards that this job gave up",
        "images_left": "Planned images of the shards that are still to be made",
        "images_rejected": "Images that no attempt brought through the gate, in this job",
        "images_per_second": "Images per second over the last shards",
        "eta_seconds": "Seconds until the last shard at the recent rate",
        "actor_deaths": "Deaths of generator actors in this job",
    },
    "train": _of("steps", **_TRAINING),
    "train_generator": _of("steps", **_TRAINING),
    "audit": _of("pieces", pictures="Pictures embedded in this job"),
    "experiment": _of("pieces", accuracy="Mean accuracy of the last student"),
}
"""Gauges as {stage: {name: meaning}}; `cluster/README.md` is the table of them for people."""

COUNTERS: dict[str, dict[str, str]] = {
    "synthesis": {"images": "Images made by this job", "refused": "Draws refused by the gate, by `reason`"}
}
"""Counters, like GAUGES; Prometheus shows them with `_total` behind their name."""


def label(value: str) -> str:
    """Return the value of a label as Ray takes it, in ASCII: what is not, control characters and % stand as in a
    URL."""
    return quote(value, safe=PLAIN, errors="surrogateescape")


def gauge(stage: str, name: str, run: str) -> Any:
    """Return the gauge of a run."""
    from ray.util.metrics import Gauge

    return Gauge(f"hyperface_{stage}_{name}", GAUGES[stage][name], ("run",)).set_default_tags({"run": label(run)})


def counter(stage: str, name: str, run: str, *labels: str) -> Any:
    """Return the counter of a run."""
    from ray.util.metrics import Counter

    made = Counter(f"hyperface_{stage}_{name}", COUNTERS[stage][name], ("run", *labels))
    made.set_default_tags({"run": label(run)})
    return made


class Gauges:
    """A `Watch` that shows the last point, with the rate at which it was come to, to Prometheus."""

    def __init__(self, stage: str, run: str) -> None:
        self._gauges = {name: gauge(stage, name, run) for name in GAUGES[stage]}
        self._units = next(iter(GAUGES[stage]))

    def __call__(self, point: Point) -> None:
        for name, value in numbers(self._units, point).items():
            if name in self._gauges:
                self._gauges[name].set(value)


def numbers(units: str, point: Point) -> dict[str, float]:
    """Return {name: value} of a point, by the names of its stage's gauges."""
    found: dict[str, float] = {units: point.total, f"{units}_done": point.done, f"{units}_per_second": point.rate}
    if point.eta_seconds is not None:
        found["eta_seconds"] = point.eta_seconds
    return {**found, **point.values}


def watching(run: Run, stage: str, name: str = "", rank: int = 0) -> Watch:
    """Return the watch that follows a stage of a run: Prometheus where Ray runs and, with cluster.tensorboard, a curve.
    Neither can end the stage.

    Args:
        name: name of the training, where a run may hold several.
        rank: rank in a group; only the first is watched.
    """
    watches: list[Watch] = []
    if rank == 0 and ray.is_initialized():
        watches.append(harmless(lambda: Gauges(stage, run.store.url), "metrics"))
    if rank == 0 and run.config.cluster.tensorboard:
        watches.append(harmless(lambda: Curves(run.store, f"{stage}-{name}" if name else stage), "curves"))

    def tell(point: Point) -> None:
        for watch in watches:
            watch(point)

    return tell if watches else unwatched
