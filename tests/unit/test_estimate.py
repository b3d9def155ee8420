"""A plan of what a run will take: worked out by hand for a million identities, and what is said when it cannot be."""

import json
from pathlib import Path

import pytest

from hyperface import config as configuration
from hyperface.capacity import text
from hyperface.capacity.estimate import Estimate, estimate, needed
from hyperface.capacity.rates import UNITS, Rates, read, settings_of, to_bytes
from hyperface.capacity.tables import row_counts
from hyperface.config import Config
from hyperface.errors import ConfigError, EmbeddingError
from hyperface.run import open_run

# Round numbers, so that a person can follow: no machine has these rates.
NUMBERS = {
    "embedding_dim": 512.0,
    "image_size": 112.0,
    "driver_seconds": 20.0,
    "embed_start_seconds": 30.0,
    "embed_images_per_second": 500.0,
    "draw_start_seconds": 60.0,
    "images_per_second": 10.0,
    "jpeg_bytes": 8_000.0,
    "webdataset_bytes": 10_240.0,
    "encode_seconds": 0.0001,
    "request_seconds": 0.05,
    "upload_bytes_per_second": 100e6,
    "read_bytes_per_second": 200e6,
    "pair_flops_float32": 10e12,
    "search_flops": 20e12,
    "report_start_seconds": 10.0,
    "report_images_per_second": 100.0,
    "compare_flops": 1e12,
}
MILLION = [
    "run.dir=unused",
    "recognizer.kind=onnx",
    "recognizer.path=model.onnx",
    f"recognizer.sha256={'ab' * 32}",
    "embed.source=faces",
    "embed.num_faces=1000000",
    "embed.gpus_per_actor=1",
    "packing.num_identities=1000000",
    "packing.num_workers=64",
    "packing.gpus_per_worker=1",
    "synthesis.images_per_identity=64",
    "synthesis.images_per_shard=10000",
    "synthesis.gpus_per_actor=1",
    "plan.gpus=64",
    "plan.network_gb_per_s=10",
    "plan.gpu_hour_price=2",
]


def of(*overrides: str, words: list[str] = MILLION, **rates: float) -> Estimate:
    return estimate(configuration.load(None, [*words, *overrides]), Rates("a table", NUMBERS | rates))


def test_a_million_identities_on_64_gpus_take_what_is_worked_out_by_hand():
    found = of()
    # 7,813 chunks of 128 faces over 64 actors: 123 of them, 15,744 faces at 500/s
    assert found["embed.seconds"] == pytest.approx(20 + 30 + 15_744 / 500)
    # half of 10^12 pairs, 3 products of 2 x 512 operations each, over 64 workers of 10^13 a second
    step = 0.5e12 * 3 * 2 * 512 / 64 / 10e12
    assert found["packing.step_seconds"] == pytest.approx(step, rel=1e-5)
    # 63/64 of 2.048 GB gathered and as much reduced; twice 63/64 of 4 MB for the maxima
    sent = 63 / 64 * (2 * 2.048e9 + 2 * 4e6)
    assert found["packing.network_bytes"] == pytest.approx(sent)
    # 2 searches of 10^12 and 3 looks at 1.5 x 10^12 cosines with 2 x 512 operations at 2 x 10^13 a second
    searching = (2 + 3 * 1.5) * 1e12 * 1024 / 64 / 20e12
    assert found["packing.seconds"] == pytest.approx(60 + 20 * (step + sent / 10e9) + searching, rel=1e-5)
    assert found["synthesis.images"] == 64_000_000
    assert found["synthesis.shards"] == 6_400
    assert found["synthesis.shard_bytes"] == 102_400_000
    assert found["synthesis.shard_seconds"] == 1_000
    commit = 10_000 * 0.0001 + 102.4e6 / 100e6 + 6 * 0.05
    assert found["synthesis.commit_seconds"] == pytest.approx(commit)
    # 100 shards on each of 64 actors; references of 2.048 GB at 200 MB/s; two looks at 6,400 markers by 16 readers
    drawing = 60 + 2.048e9 / 200e6 + 100 * 1_000 + commit + 2 * 6_400 / 16 * 0.05
    assert found["synthesis.seconds"] == pytest.approx(drawing)
    assert found["storage.dataset_bytes"] == 655_360_000_000
    assert found["storage.tables_bytes"] == 2 * 2_048_000_000
    # all shards through one reader, 4,000 images, and 2 x 10^12 cosines
    reporting = 10 + 655.36e9 / 200e6 + 4_000 / 100 + 2e12 * 1024 / 1e12
    assert found["report.seconds"] == pytest.approx(reporting, rel=1e-5)
    stages = sum(found[f"{stage}.seconds"] for stage in ("embed", "packing", "synthesis", "report"))
    wall = stages + 60  # to try the models first
    assert found["total.seconds"] == pytest.approx(wall)
    assert found["total.gpu_hours"] == pytest.approx((stages - reporting) * 64 / 3600, rel=1e-5)
    assert found["total.paid_gpu_hours"] == pytest.approx(wall * 64 / 3600)
    assert found["total.cost"] == pytest.approx(wall * 64 / 3600 * 2)
    assert 1_870 < found["total.paid_gpu_hours"] < 1_890


def test_a_start_that_was_drawn_is_kept_where_steps_follow():
    tables = of()["storage.tables_bytes"]
    assert of("packing.start=rejection")["storage.tables_bytes"] == 1.5 * tables
    assert of("packing.start=rejection", "packing.steps=0")["storage.tables_bytes"] == tables


def test_more_gpus_never_take_longer_and_more_work_never_less():
    def seconds(*overrides: str) -> float:
        return of(*overrides)["total.seconds"]

    by_gpus = [seconds(f"plan.gpus={64 * k}") for k in (1, 3, 1000)]
    assert by_gpus == sorted(by_gpus, reverse=True)
    for key, values in {
        "packing.num_identities": (500_000, 1_000_000),
        "synthesis.images_per_identity": (1, 64, 65),
        "packing.steps": (0, 20, 400),
        "embed.num_faces": (1_000_000, 3_000_000),
    }.items():
        found = [seconds(f"{key}={value}") for value in values]
        assert found == sorted(found), key
        assert found[0] < found[-1], key


def test_a_plan_needs_no_more_actors_than_there_are_shards():
    few = of("packing.num_identities=1000", "packing.num_workers=1", "plan.gpus=64")
    assert few["synthesis.shards"] == 7
    assert few["synthesis.gpu_hours"] == pytest.approx(7 * few["synthesis.seconds"] / 3600)


def test_where_the_upload_is_slower_than_the_generator_it_decides_the_wall_time():
    slow = of(upload_bytes_per_second=50_000.0)
    assert slow["synthesis.commit_seconds"] > 2_000
    assert slow["synthesis.seconds"] > 100 * slow["synthesis.commit_seconds"]
    assert any("storage decides the wall time" in warning for warning in slow.warnings)


def test_the_anchors_of_a_judge_cost_an_image_of_each_identity():
    judge = ["judge.kind=onnx", "judge.path=j.onnx", f"judge.sha256={'cd' * 32}", "synthesis.min_judge_cosine=0.2"]
    more = of(*judge)["synthesis.seconds"] - of()["synthesis.seconds"]
    assert more == pytest.approx(60 + 1e6 / 64 / 10)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("synthesis.images_per_shard=90", "a shard takes 9.0 s: below 10 s"),
        ("synthesis.images_per_shard=40000", "a shard takes 1.1 h"),
        ("synthesis.images_per_shard=90000", "synthesis.images_per_shard must be at most"),
        ("plan.gpu_memory_gb=8", "a packing worker needs"),
        ("synthesis.gpus_per_actor=0.25", "4 actors that share a GPU may each be so many times slower"),
        ("packing.polish=true packing.alpha=0 packing.num_workers=1", "packing.restarts and packing.polish are"),
    ],
)
def test_what_would_go_wrong_is_said_with_the_key(override: str, said: str):
    assert not any(said in warning for warning in of().warnings)
    warnings = of(*override.split()).warnings
    assert any(said in warning for warning in warnings), warnings


def test_actors_that_share_a_gpu_must_fit_it_together():
    rates = Rates("a table", NUMBERS | {"draw_gpu_bytes": 30e9})
    alone = configuration.load(None, [*MILLION, "plan.gpu_memory_gb=80"])
    assert not any("draw" in warning or "synthesis actor" in warning for warning in estimate(alone, rates).warnings)
    four = configuration.load(None, [*MILLION, "plan.gpu_memory_gb=80", "synthesis.gpus_per_actor=0.25"])
    assert "as measured, 4 synthesis actors that share a GPU need 120.0 GB" in "".join(estimate(four, rates).warnings)


def test_settings_that_differ_from_the_measured_ones_are_named():
    config = configuration.load(None, MILLION)
    same = Rates("a table", NUMBERS, settings_of(config))
    assert not estimate(config, same).warnings
    other = configuration.load(None, [*MILLION, "synthesis.batch_size=8"])
    (warning,) = estimate(other, same).warnings
    assert "synthesis.batch_size: 32 -> 8" in warning


def test_missing_rates_are_named_with_the_key_and_the_way_to_measure_them():
    config = configuration.load(None, MILLION)
    known = {name: value for name, value in NUMBERS.items() if name not in ("images_per_second", "search_flops")}
    with pytest.raises(ConfigError, match=r"plan\.rates: a table lacks(.|\n)*--calibrate") as error:
        estimate(config, Rates("a table", known))
    assert "images_per_second: " + UNITS["images_per_second"] in str(error.value)
    assert "search_flops" in str(error.value)


def test_a_format_or_precision_asks_for_rates_of_its_own():
    config = configuration.load(None, [*MILLION, "dataset.format=both", "packing.precision=bfloat16"])
    assert {"parquet_bytes", "pair_flops_bfloat16"} <= set(needed(config))
    assert not {"parquet_bytes", "pair_flops_bfloat16"} & set(needed(configuration.load(None, MILLION)))


def test_what_cannot_be_known_is_asked_for():
    with pytest.raises(ConfigError, match=r"plan\.num_faces is needed with embed\.num_faces=0"):
        of("embed.num_faces=0")
    assert of("embed.num_faces=0", "plan.num_faces=1000000").figures == of().figures
    with pytest.raises(ConfigError, match=r"plan\.gpus must be at least 64, which packing\.num_workers.*it is 8"):
        of("plan.gpus=8")
    with pytest.raises(ConfigError, match=r"plan\.gpu_hour_price must be at least 0; it is -1"):
        of("plan.gpu_hour_price=-1")


def written(folder: Path, text: str) -> Config:
    path = folder / "rates.json"
    path.write_text(text)
    return configuration.load(None, [*MILLION, f"plan.rates={path}"])


def test_a_table_is_read_as_it_was_written(tmp_path: Path):
    config = configuration.load(None, MILLION)
    table = to_bytes(NUMBERS, config, {"device": "a card", "commit": "abc"})
    rates = read(written(tmp_path, table.decode()))
    assert (rates.numbers, rates.settings, rates.device) == (NUMBERS, settings_of(config), "a card")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("no table", "must be JSON with the numbers under `rates`"),
        ('{"speed": {}}', "must be JSON with the numbers under `rates`"),
        ('{"rates": {"images_per_secnd": 3}}', "unknown rates images_per_secnd"),
        ('{"rates": {"images_per_second": 0}}', "images_per_second of .* must be a number above 0"),
        ('{"rates": {"request_seconds": -1}}', "request_seconds of .* must be a number above 0"),
        ('{"rates": {"images_per_second": NaN}}', "images_per_second of .* must be a number above 0"),
    ],
)
def test_another_file_is_no_table(table: str, said: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=rf"plan\.rates: .*{said}"):
        read(written(tmp_path, table))


def test_without_a_table_the_way_to_measure_one_is_said(tmp_path: Path):
    with pytest.raises(
        ConfigError, match=r"plan\.rates: there are no measured rates at .*plan/rates\.json.*--calibrate"
    ):
        read(configuration.load(None, [f"run.dir={tmp_path}/run"]))


def test_measured_rates_in_a_run_bind_it_to_no_configuration(tmp_path: Path):
    first = configuration.load(None, [f"run.dir={tmp_path}/run"])
    open_run(first).store.put("plan/rates.json", to_bytes(NUMBERS, first, {}))
    assert read(first).numbers == NUMBERS
    open_run(configuration.load(None, [f"run.dir={tmp_path}/run", "run.seed=1"]))


def test_rows_of_frozen_and_protected_tables_are_counted(tmp_path: Path):
    import numpy as np

    from hyperface.faces.embeddings import Embeddings, to_parquet

    (tmp_path / "frozen.parquet").write_bytes(
        to_parquet("identity", Embeddings([0, 1, 2], np.eye(3, dtype=np.float32)))
    )
    np.save(tmp_path / "people.npy", np.eye(2, 3, dtype=np.float32))
    words = [f"packing.frozen={tmp_path}/frozen.parquet", f"packing.protected={tmp_path}/people.npy"]
    assert row_counts(configuration.load(None, [*MILLION, *words])) == (3, 2)
    assert row_counts(configuration.load(None, MILLION)) == (0, 0)
    (tmp_path / "frozen.parquet").write_bytes(b"no table")
    with pytest.raises(EmbeddingError, match=r"frozen\.parquet: is not a readable embedding table"):
        row_counts(configuration.load(None, [*MILLION, *words]))


def test_each_figure_is_printed_with_its_rule_and_told_to_programs():
    found, rates = of(), Rates("a table", NUMBERS, {}, "a card")
    printed = text.table(found, rates)
    assert "measured on a card" in printed
    flowing = " ".join(printed.split())
    assert "1,000,000 of 1,000,000 identities x 512: all-gather 2.02 GB, reduce-scatter 2.02 GB" in flowing
    assert "shards 6,400" in flowing
    assert "dataset bytes 655 GB" in flowing
    assert max(map(len, printed.splitlines())) <= 120
    told = json.loads(text.to_json(found, rates))
    assert told["figures"]["synthesis.shards"]["value"] == 6_400
    assert all(figure["rule"] for figure in told["figures"].values())
