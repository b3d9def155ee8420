"""Rates that are measured with the functions of the stages: all that a plan needs, and nothing left behind."""

from pathlib import Path

from hyperface import config as configuration
from hyperface.capacity import measure
from hyperface.capacity.estimate import estimate, needed
from hyperface.capacity.rates import Rates, read_file, to_bytes

STARTS = {"driver_seconds": 1.0, "embed_start_seconds": 1.0, "draw_start_seconds": 1.0}  # told by Ray's side
SMALL = [
    "synthesis.generator=toy_render",
    "synthesis.batch_size=4",
    "synthesis.images_per_shard=8",
    "embed.num_faces=16",
    "packing.num_identities=8",
    "packing.precision=bfloat16",
    "dataset.format=both",
]


def test_one_actor_of_each_stage_is_measured_for_all_that_a_plan_needs(tmp_path: Path):
    config = configuration.load(None, [f"run.dir={tmp_path}/run", *SMALL])
    budget = 0.01
    numbers, faces_ND = measure.embedding(config, budget)
    numbers |= measure.pairs(config, 128, "cpu", budget)
    seen: list[str] = []
    numbers |= measure.drawing(config, faces_ND, budget, lambda: seen.append("loaded"))
    numbers |= measure.reporting(config, 128)
    measure.sweep(config)
    assert seen == ["loaded"]
    assert set(numbers) | set(STARTS) == set(needed(config))
    assert (numbers["embedding_dim"], numbers["image_size"]) == (128, 64)
    assert 500 < numbers["jpeg_bytes"] < numbers["parquet_bytes"] < numbers["webdataset_bytes"] < 20_000
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    (tmp_path / "rates.json").write_bytes(to_bytes(numbers | STARTS, config, {"device": "this one"}))
    rates = read_file(f"{tmp_path}/rates.json", config.storage)
    assert rates == Rates(rates.source, numbers | STARTS, rates.settings, "this one")
    assert estimate(config, rates)["synthesis.shards"] == 8
