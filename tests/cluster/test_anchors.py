"""A judge on Ray: the anchors are drawn first, and the dataset is the one of one process."""

import sys
from pathlib import Path

import color_world
import pytest
import ray
import side_judge
from color_world import ColorGenerator, ColorRecognizer, color_run, hashes, make_dataset
from side_judge import SideJudge

from cluster.synthesis import synthesize_stage
from hyperface.config import Config
from hyperface.dataset import verify
from hyperface.errors import ConfigError
from hyperface.models.protocols import Models
from hyperface.run.names import INDEX
from hyperface.synthesis.anchors import block_file

# The workers have no path to the tests.
for module in (color_world, side_judge, sys.modules[__name__]):
    ray.cloudpickle.register_pickle_by_value(module)

OPTIONS = ("recognizer.kind=toy", "synthesis.min_judge_cosine=0.8", "synthesis.num_actors=2")
pytestmark = pytest.mark.usefixtures("ray_cluster")


def models(_: Config) -> Models:
    return Models(ColorGenerator(miss_every=5), ColorRecognizer(), judge=SideJudge())


def test_a_judged_dataset_is_the_one_of_one_process(tmp_path: Path):
    one, other = (color_run(tmp_path / name, *OPTIONS) for name in ("one", "other"))
    make_dataset(one, judge=SideJudge())
    synthesize_stage(other, models)
    assert hashes(other) == hashes(one)
    made = one.get_json(INDEX)["fingerprint"]
    assert other.store.read(block_file(made, 0)) == one.store.read(block_file(made, 0))
    assert verify(other, deep=True) == []
    assert "judge" in other.get_json("dataset/fingerprint.json")
    assert other.get_json(INDEX)["images"] > 0


def test_a_judge_that_takes_other_images_stops_the_job_with_its_name(tmp_path: Path):
    run = color_run(tmp_path / "run", *OPTIONS)
    with pytest.raises(ConfigError, match=r"images have 16 pixels; the judge takes 112"):
        synthesize_stage(run, lambda _: Models(ColorGenerator(), ColorRecognizer(), judge=SideJudge(image_size=112)))
    assert run.store.list("synthesis") == {}
