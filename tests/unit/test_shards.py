"""A worker's share: models, references and dataset must belong together before a shard is made."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from color_world import ColorGenerator, ColorRecognizer, color_run, hashes, make_dataset

from hyperface.dataset import Dataset, fingerprint, verify
from hyperface.errors import ConfigError, EmbeddingError, ShardError
from hyperface.models.protocols import Models
from hyperface.run import Run
from hyperface.synthesis.shards import ShardMaker, read_references, shard_maker
from hyperface.synthesis.variation import mixture

DEALT = [[0.3, 0.5, 0.7, 0.3, 0.5], [0.5, 0.5, 0.3, 0.3, 0.7]]
"""Raise `fingerprint.DEALING` where this has to change."""
PARQUET = "dataset/parquet/shard-000001.parquet"


def maker(run: Run, generator: ColorGenerator | None = None, recognizer: ColorRecognizer | None = None) -> ShardMaker:
    models = Models(generator or ColorGenerator(), recognizer or ColorRecognizer())
    return shard_maker(run, read_references(run), models)


def test_a_recogniser_of_another_dimension_is_refused_with_the_references_name(tmp_path: Path):
    run = color_run(tmp_path / "run")
    rule = r"packing/references.parquet: has dimension 12; the recogniser works in 512; pack again"
    with pytest.raises(EmbeddingError, match=rule):
        maker(run, ColorGenerator(), ColorRecognizer(embedding_dim=512))
    assert run.store.list("dataset") == {}


def test_a_generator_of_another_dimension_than_the_recogniser_is_refused(tmp_path: Path):
    run = color_run(tmp_path / "run")
    rule = r"synthesis.generator=toy_\w+: takes embeddings of 128 numbers; the recogniser's have 12; choose another"
    with pytest.raises(ConfigError, match=rule):
        maker(run, ColorGenerator(embedding_dim=128))
    assert run.store.list("dataset") == {}


def test_models_of_different_image_sizes_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"images have 512 pixels; the recogniser takes 16"):
        maker(color_run(tmp_path / "run"), ColorGenerator(image_size=512))


def test_a_dataset_begun_with_other_models_is_refused_naming_each(tmp_path: Path):
    run = color_run(tmp_path / "run")
    maker(run)
    with pytest.raises(ConfigError, match=r"'0e0e.*' -> 'cdcd") as refused:
        maker(run, ColorGenerator(fingerprint="ab" * 32), ColorRecognizer(fingerprint="cd" * 32))
    named = [line.split(":")[0].strip() for line in str(refused.value).splitlines()[1:]]
    assert named == ["generator", "recognizer"]


def test_a_shard_whose_name_is_taken_is_refused_and_kept(tmp_path: Path):
    run = color_run(tmp_path / "run")
    run.store.put(PARQUET, b"something else")
    with pytest.raises(ShardError, match=r"shard-000001.parquet: holds other bytes"):
        maker(run).make(1)
    assert run.store.read(PARQUET) == b"something else"
    assert maker(replace(run, config=color_run(tmp_path / "run", "synthesis.repair=true").config)).make(1)["rows"] == 8


def test_the_order_of_shards_and_the_number_of_makers_change_no_byte(tmp_path: Path):
    one, other = color_run(tmp_path / "one"), color_run(tmp_path / "other")
    make_dataset(one, ColorGenerator())
    for shard in (3, 1, 0, 2):
        maker(other).make(shard)
    make_dataset(other, ColorGenerator())
    assert hashes(one) == hashes(other)


def test_every_setting_that_changes_bytes_is_in_the_fingerprint(tmp_path: Path):
    digests = {maker(color_run(tmp_path / "plain")).fingerprint}
    changes = ["run.seed=1", "synthesis.beta=0.02", "synthesis.batch_size=4", "dataset.jpeg_quality=90"]
    changes += [
        "packing.first_identity=6",
        "synthesis.min_cosine=0.8",
        "synthesis.max_attempts=9",
        "dataset.format=parquet",
    ]
    for change in changes:
        digests.add(maker(color_run(tmp_path / change, change)).fingerprint)
    assert len(digests) == 1 + len(changes)
    knobs = color_run(tmp_path / "knobs", "synthesis.num_actors=9", "synthesis.repair=true")
    assert maker(knobs).fingerprint in digests


def test_a_dataset_of_one_format_is_whole_without_the_other(tmp_path: Path):
    for kind, folder in (("parquet", "webdataset"), ("webdataset", "parquet")):
        run = color_run(tmp_path / kind, f"dataset.format={kind}")
        make_dataset(run)
        assert verify(run, deep=True) == []
        assert run.store.list(f"dataset/{folder}") == {}


def test_statistics_of_a_shard_are_plain_numbers(tmp_path: Path):
    row = maker(color_run(tmp_path / "run"), ColorGenerator(miss_every=3)).make(0)
    assert row["rows"] + row["rejects"] == 8
    assert row["draws"] == 8 + row["redraws"]
    assert all(
        isinstance(value, int | float) and not isinstance(value, np.generic)
        for key, value in row.items()
        if key != "refused"
    )
    assert sum(row["refused"].values()) == row["redraws"] + row["rejects"]
    assert set(row["refused"]) == {"cosine"}


def test_a_batch_size_found_by_trial_is_recorded_and_holds_for_whoever_comes_later(tmp_path: Path):
    run = color_run(tmp_path / "run", "synthesis.batch_size=0")
    first = maker(run)
    assert 1 <= first.drawing.batch_size <= 8
    recorded = run.get_json("dataset/fingerprint.json")
    run.put_json("dataset/fingerprint.json", {**recorded, "batch_size": 5})
    assert maker(run).drawing.batch_size == 5
    with pytest.raises(ConfigError, match=r"synthesis.batch_size: 0 -> 3"):
        maker(replace(run, config=color_run(tmp_path / "other").config))


def test_a_dataset_from_before_there_was_a_key_had_its_default(tmp_path: Path):
    first = maker(color_run(tmp_path / "run")).fingerprint
    run = color_run(tmp_path / "run")
    recorded = run.get_json("dataset/fingerprint.json")
    run.put_json("dataset/fingerprint.json", {k: v for k, v in recorded.items() if k != "synthesis.max_angle"})
    assert maker(run).fingerprint != first  # what its markers carry is what was recorded
    other = color_run(tmp_path / "other", "synthesis.max_angle=20").config
    with pytest.raises(ConfigError, match=r"synthesis.max_angle: \d+\.0 -> 20\.0"):
        maker(replace(run, config=other))


def test_a_dataset_whose_shares_were_dealt_otherwise_is_not_gone_on_with(tmp_path: Path):
    assert [mixture((0.3, 0.5, 0.7), (0.4, 0.4, 0.2), 5, seed).tolist() for seed in (1, 2)] == DEALT
    run = color_run(tmp_path / "run", "synthesis.variation=norm_preserving")
    maker(run)
    recorded = run.get_json("dataset/fingerprint.json")
    run.put_json("dataset/fingerprint.json", {k: v for k, v in recorded.items() if k != "dealing"})
    with pytest.raises(ConfigError, match=r"dealing: None -> 2"):
        maker(run)
    assert "dealing" not in fingerprint.chosen(color_run(tmp_path / "other").config, "")


def test_the_kinds_of_variation_and_the_gate_are_in_the_fingerprint(tmp_path: Path):
    changes = ["variation=angle", "max_angle=20", "sigmas=[0.1,0.2,0.3]", "min_sharpness=1", "min_hash_distance=2"]
    digests = [maker(color_run(tmp_path / change, f"synthesis.{change}")).fingerprint for change in changes]
    assert len({*digests, maker(color_run(tmp_path / "plain")).fingerprint}) == len(changes) + 1


@pytest.mark.parametrize("kind", ["angle", "norm_preserving"])
def test_each_kind_of_variation_makes_a_whole_dataset(tmp_path: Path, kind: str):
    run = color_run(tmp_path / "run", f"synthesis.variation={kind}", "synthesis.min_cosine=0.3")
    make_dataset(run, ColorGenerator())
    assert verify(run, deep=True) == []
    spread = [cosine for shard in Dataset.of(run) for cosine in shard.cosines]
    assert 0.7 < sum(spread) / len(spread) < 0.97


def test_a_dataset_that_was_steered_is_not_gone_on_with_unsteered(tmp_path: Path):
    config = color_run(tmp_path / "run").config
    begun = replace(config, control=replace(config.control, targets={"yaw": [0.0]}))
    before = {**fingerprint.chosen(begun, "ab"), "batch_size": 4, "generator": "cd", "recognizer": "ef"}
    store = color_run(tmp_path / "run").store
    fingerprint.refuse_others(store, before, fingerprint.chosen(begun, "ab"))
    with pytest.raises(ConfigError, match=r"control\.targets: \{'yaw': \[0\.0\]\} -> \{\}"):
        fingerprint.refuse_others(store, before, fingerprint.chosen(config, "ab"))


def test_a_dataset_that_was_judged_is_not_gone_on_with_unjudged(tmp_path: Path):
    store = color_run(tmp_path / "run").store
    before = {"recognizer": "ab", "generator": "cd", "judge": "ef", "batch_size": 4}
    with pytest.raises(ConfigError, match="judge: 'ef' -> None"):
        fingerprint.refuse_others(store, before, {"recognizer": "ab", "generator": "cd"})
