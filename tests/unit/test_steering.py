"""Steering inside a dataset: exact shares, what is recorded of each image, and what does not depend on what."""

import io
import json
import math
import tarfile
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from color_world import ColorGenerator, ColorRecognizer, color_config, color_run, hashes, references
from steerable_world import RANGES, STEERED, Reader, SteerableGenerator, SteerableRecognizer, models
from torch import Tensor

from hyperface.config import ControlConfig
from hyperface.dataset import Dataset, verify
from hyperface.dataset.marker import Marker
from hyperface.dataset.plan import marker_file, shard_file
from hyperface.dataset.schema import Attribute, Outcome
from hyperface.errors import ConfigError
from hyperface.models.protocols import Models
from hyperface.run import Run
from hyperface.run.names import DATA_CARD, INDEX
from hyperface.synthesis import steering
from hyperface.synthesis.shards import check_models, read_references, shard_maker
from hyperface.synthesis.single import make_dataset
from hyperface.synthesis.variation import mixture


class Detached(SteerableGenerator):
    def decode(self, embeddings_BD: Tensor, seeds_B: Sequence[int]) -> Tensor:
        return super().decode(embeddings_BD, seeds_B).detach()


class Blind(SteerableRecognizer):
    def features_of(self, images_BCHW: Tensor) -> Tensor:
        return super().features_of(images_BCHW.detach())


class Rounding(Reader):
    def values(self, images_BCHW: Tensor) -> Tensor:
        return super().values(images_BCHW).int().float()


def steered_run(folder: Path, *overrides: str, used: Models | None = None) -> Run:
    run = color_run(folder, *STEERED, *overrides)
    make_dataset(run, used or models())
    return run


def described(run: Run) -> dict[str, dict[str, Any]]:
    """{key: the JSON of the image} of the tar files."""
    found = {}
    for shard in range(4):
        with tarfile.open(fileobj=io.BytesIO(run.store.read(shard_file("webdataset", shard)))) as archive:
            for info in archive:
                file = archive.extractfile(info)
                if info.name.endswith(".json") and file:
                    found[info.name.removesuffix(".json")] = json.loads(file.read())
    return found


def control(**given: Any) -> steering.Control:
    made = steering.chosen(ControlConfig(**given), RANGES)
    assert made is not None
    return made


@pytest.mark.parametrize("shares", [("0.4", "0.4", "0.2"), ("0.33", "0.33", "0.34"), ("0.5", "0", "0.5"), ("1",)])
def test_shares_are_exact_for_any_number_of_images(shares: tuple[str, ...]):
    for images in range(1, 203):
        dealt = Counter(mixture(tuple(map(float, range(len(shares)))), tuple(map(float, shares)), images, seed=images))
        wanted = [Fraction(share) * images for share in shares]
        counts = [dealt[float(place)] for place in range(len(shares))]
        assert sum(counts) == images
        for part, count in zip(wanted, counts, strict=True):
            assert count in {math.floor(part), math.ceil(part)}


def test_targets_are_dealt_exactly_and_what_shares_leave_is_not_steered():
    aims = control(targets={"red": [-0.5, 0.5], "blue": [0.1]}, shares={"red": [0.3, 0.2]})
    dealt = aims.image_targets(run_seed=7, identity=3, images=50)
    blue, red = dealt[:, 0], dealt[:, 1]
    assert [aim.name for aim in aims.aims] == ["blue", "red"]
    assert (blue == 0.1).all()
    assert ((red == -0.5).sum(), (red == 0.5).sum(), np.isnan(red).sum()) == (15, 10, 25)
    again, other = (aims.image_targets(7, identity, 50) for identity in (3, 4))
    np.testing.assert_array_equal(dealt, again)
    assert not np.array_equal(dealt, other, equal_nan=True)
    assert not np.array_equal(dealt, aims.image_targets(8, 3, 50), equal_nan=True)


def test_targets_that_no_identity_can_share_out_evenly_are_even_over_many():
    aims = control(targets={"red": [-0.5, 0, 0.5]})
    for images in (1, 2, 8):
        dealt = Counter(red for identity in range(1000) for red in aims.image_targets(7, identity, images)[:, 0])
        # of one image, a count has a standard deviation of at most 0.5 per identity
        assert [dealt[target] for target in (-0.5, 0, 0.5)] == pytest.approx([images * 1000 / 3] * 3, abs=60)


def test_the_order_of_one_attribute_does_not_depend_on_the_others():
    alone = control(targets={"red": [-0.5, 0.5]}).image_targets(7, 3, 20)[:, 0]
    beside = control(targets={"red": [-0.5, 0.5], "blue": [0.1, 0.2]}).image_targets(7, 3, 20)[:, 1]
    assert (alone == beside).all()


def test_a_steered_dataset_meets_its_targets_and_says_so_everywhere(tmp_path: Path):
    run = steered_run(tmp_path / "run")
    assert verify(run, deep=True) == []
    rows = [row for shard in range(4) for row in _parquet(run, shard)]
    assert len(rows) == 30
    of_tar = described(run)
    for row in rows:
        told = json.loads(row["control"])
        assert told == of_tar[row["key"]]["control"]
        (red,) = told["attributes"].values()
        assert red["target"] in (-0.2, 0.2)
        assert red["met"] is (abs(red["value"] - red["target"]) <= 0.1)
    met = sum(json.loads(row["control"])["attributes"]["red"]["met"] for row in rows)
    index = run.get_json(INDEX)
    assert index["control"] == {"red": {"met": met, "not_met": 30 - met}}
    assert met >= 26
    assert f"| steered to a target, red | met by {met} of 30 images as stored |\n| mean cosine" in _card(run)
    counts = [Marker.from_bytes(run.store.read(marker_file(s)), "").control["red"]["met"] for s in range(4)]
    assert sum(counts) == met


def test_each_identity_gets_its_targets_in_exact_shares(tmp_path: Path):
    run = steered_run(tmp_path / "run")
    for identity in range(6):
        own = [
            d["control"]["attributes"]["red"]["target"] for d in described(run).values() if d["identity"] == identity
        ]
        assert sorted(Counter(own).items()) in ([(-0.2, 2), (0.2, 3)], [(-0.2, 3), (0.2, 2)])


def test_images_that_shares_leave_have_no_target_and_are_not_counted(tmp_path: Path):
    run = steered_run(tmp_path / "run", "control.shares.red=[0.4,0.2]")
    told = [found["control"]["attributes"] for found in described(run).values()]
    assert Counter(len(attributes) for attributes in told) == Counter({1: 18, 0: 12})
    counted = run.get_json(INDEX)["control"]["red"]
    assert counted["met"] + counted["not_met"] == 18
    assert verify(run, deep=True) == []


def test_steering_keeps_to_the_reference_and_moves_what_it_must(tmp_path: Path):
    plain = color_run(tmp_path / "plain", "synthesis.min_cosine=0.6")
    make_dataset(plain, Models(SteerableGenerator(), SteerableRecognizer()))
    of_plain = np.concatenate([shard.cosines for shard in Dataset.of(plain)])
    of_steered = np.concatenate([shard.cosines for shard in Dataset.of(steered_run(tmp_path / "run"))])
    assert of_plain.mean() > of_steered.mean()
    assert of_steered.min() > 0.65


def test_the_order_of_shards_and_the_number_of_makers_change_no_byte(tmp_path: Path):
    one = steered_run(tmp_path / "one")
    other = color_run(tmp_path / "other", *STEERED)
    for shard in (3, 1, 0, 2):
        shard_maker(other, read_references(other), models()).make(shard)
    make_dataset(other, models())
    assert hashes(one) == hashes(other)


def test_an_image_that_cannot_be_decoded_costs_no_other(tmp_path: Path):
    fine = described(steered_run(tmp_path / "fine", "synthesis.batch_size=1"))
    broken = described(steered_run(tmp_path / "broken", used=models(generator=SteerableGenerator(fail_every=4))))
    first = {key: d for key, d in broken.items() if d["attempt"] == 0}
    assert 10 < len(first) < 30
    for key, d in first.items():
        assert d["control"]["attributes"]["red"]["value"] == pytest.approx(
            fine[key]["control"]["attributes"]["red"]["value"], abs=0.01
        )


def test_an_image_that_is_not_met_is_stored_and_counted(tmp_path: Path):
    run = steered_run(tmp_path / "run", "control.targets.red=[-1,1]", "control.steps=3", "control.redraw=false")
    assert (run.get_json(INDEX)["redraws"], run.get_json(INDEX)["refused"]) == (0, {})
    counted = run.get_json(INDEX)["control"]["red"]
    assert counted["met"] + counted["not_met"] == 30
    assert counted["not_met"] > 20
    assert all(d["control"]["steps"] <= 3 for d in described(run).values())


def test_an_image_that_misses_is_drawn_again_and_the_best_of_all_draws_is_kept(tmp_path: Path):
    given = ("control.targets.red=[-0.9,0.9]", "control.steps=2", "synthesis.beta=0.2")
    once = steered_run(tmp_path / "once", *given, "control.redraw=false")
    again = steered_run(tmp_path / "again", *given)  # three attempts
    index = again.get_json(INDEX)
    assert index["images"] == 30
    assert index["redraws"] > 20
    assert index["refused"]["attribute"] >= index["redraws"]
    assert verify(again, deep=True) == []
    before, after = described(once), described(again)
    misses = [
        [abs(_red(found[key])["value"] - _red(found[key])["target"]) for key in after] for found in (before, after)
    ]
    assert all(second <= first for first, second in zip(*misses, strict=True))
    attempts = Counter(found["attempt"] for found in after.values() if not _red(found)["met"])
    assert set(attempts) == {0, 1, 2}, "the kept draw is the best one, not the last"


def test_a_dataset_without_control_has_no_trace_of_it(tmp_path: Path):
    run = color_run(tmp_path / "run")
    make_dataset(run, Models(ColorGenerator(), ColorRecognizer()))
    assert "control" not in run.get_json(INDEX)
    assert "control" not in run.get_json(marker_file(0))
    assert not [key for key in run.get_json("dataset/fingerprint.json") if "control" in key or key == "attributes"]
    assert "control" not in _parquet(run, 0)[0]
    assert "steered" not in _card(run)


def test_what_is_wanted_and_who_reads_it_are_in_the_fingerprint(tmp_path: Path):
    run = steered_run(tmp_path / "run")
    parts = run.get_json("dataset/fingerprint.json")
    assert parts["control.targets"] == {"red": [-0.2, 0.2]}
    assert parts["attributes"] == "a7" * 32
    with pytest.raises(ConfigError, match=r"attributes: 'a7.*' -> 'b8"):
        shard_maker(run, read_references(run), models(attributes=Reader(fingerprint="b8" * 32)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"generator": ColorGenerator()}, "no gradient passes through synthesis.generator"),
        ({"recognizer": ColorRecognizer()}, "no gradient passes through the recogniser"),
        ({"attributes": Reader(image_size=112)}, "takes images of 112 pixels; the dataset has 16"),
        (
            {"generator": Detached()},
            r"synthesis\.generator: must let gradients pass .*; this one gives none: choose toy_d",
        ),
        ({"recognizer": Blind()}, r"recognizer\.path: must let gradients pass"),
        ({"attributes": Rounding()}, r"control\.attribute_path: must let gradients pass .* not rounded"),
    ],
)
def test_models_without_a_gradient_or_of_another_size_are_refused(tmp_path: Path, given: dict[str, Any], said: str):
    run = color_run(tmp_path / "run", *STEERED)
    with pytest.raises(ConfigError, match=said):
        shard_maker(run, read_references(run), models(**given))
    assert run.store.list("dataset") == {}


@pytest.mark.parametrize(
    ("target", "said"),
    [("red=[-0.2,500]", "control.targets.red: must be between"), ("mood=[1]", "no attribute that the reader knows")],
)
def test_targets_that_a_reader_of_a_file_does_not_know_are_refused_without_references(target: str, said: str):
    words = [word for word in STEERED if not word.startswith("control.targets")]
    config = color_config("unused", *words, f"control.targets.{target}")
    with pytest.raises(ConfigError, match=said):
        check_models(config, models())


def test_an_image_without_a_target_is_drawn_where_it_was():
    aims = control(targets={"red": [0.2]})
    rows = references(4)
    targets = np.array([[0.2], [np.nan], [np.nan], [0.2]])
    moved, steps = aims.steered(models(), rows, [1, 2, 3, 4], rows, targets)
    assert (moved[1:3] == rows[1:3]).all()
    assert steps[1:3] == [0, 0]
    assert (moved[[0, 3]] != rows[[0, 3]]).any(axis=1).all()
    assert moved.dtype == np.float32


def test_a_miss_counts_in_tolerances_so_that_attributes_of_other_units_weigh_alike():
    aims = control(targets={"red": [0.0], "blue": [0.0]}, tolerance={"red": 0.1, "blue": 0.5})
    far_in_red = Outcome(3, {"red": Attribute(0.0, 0.4, False), "blue": Attribute(0.0, 0.0, True)})
    far_in_blue = Outcome(3, {"red": Attribute(0.0, 0.05, True), "blue": Attribute(0.0, -1.0, False)})
    assert aims.miss(far_in_red) == pytest.approx(4)
    assert aims.miss(far_in_blue) == pytest.approx(2), "further away, but fewer tolerances; what is met counts nothing"


def _red(described: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = described["control"]["attributes"]["red"]
    return found


def _miss(described: dict[str, Any]) -> float:
    return float(abs(_red(described)["value"] - _red(described)["target"]))


def _parquet(run: Run, shard: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(run.store.read(shard_file("parquet", shard)))).to_pylist()
    return rows


def _card(run: Run) -> str:
    return run.store.read(DATA_CARD).decode()
