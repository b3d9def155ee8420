"""The stage on the small world of `color_world`: six identities of five images, four shards."""

from pathlib import Path

import color_world
import faults
import ray
from color_world import ColorGenerator, ColorRecognizer, color_run, make_models

from cluster.synthesis import synthesize_stage
from hyperface.dataset.plan import Plan, image_seed
from hyperface.models.protocols import Models
from hyperface.run import Run

# The workers have no path to the tests.
ray.cloudpickle.register_pickle_by_value(color_world)
ray.cloudpickle.register_pickle_by_value(faults)

OPTIONS = ("synthesis.num_actors=1",)
PLAN = Plan(seed=0, num_identities=6, images_per_identity=5, images_per_shard=8)
FILES = 3 * PLAN.num_shards
"""Parquet, tar and marker of every shard."""


def start(path: Path | str, *overrides: str) -> Run:
    return color_run(path, *OPTIONS, *overrides)


def synthesize(run: Run, generator: ColorGenerator | None = None) -> None:
    synthesize_stage(run, (lambda _: Models(generator, ColorRecognizer())) if generator else make_models)


def seed_of(shard: int, row: int = 4) -> int:
    """The seed of the first draw of an image in the middle of a shard."""
    identities, images = PLAN.shard(shard)
    return image_seed(0, int(identities[row]), int(images[row]), 0)
