"""Rates that are measured on a cluster are written to the run's storage, with where they are from."""

import json
import time
from pathlib import Path

from cluster.calibration import calibrate
from hyperface import config as configuration
from hyperface.capacity.estimate import estimate
from hyperface.capacity.rates import read
from hyperface.run.provenance import git_sha

SMALL = ["synthesis.generator=toy_render", "synthesis.batch_size=4", "synthesis.images_per_shard=8"]
FEW = ["embed.num_faces=16", "packing.num_identities=8"]


def test_an_actor_of_each_stage_is_measured_and_the_table_is_kept_with_its_device(ray_cluster: str, tmp_path: Path):
    config = configuration.load(None, [f"run.dir={tmp_path}/run", *SMALL, *FEW])
    began = time.monotonic()
    table = json.loads(calibrate(config, began, budget=0.01))
    rates = read(config)
    assert rates.numbers == table["rates"]
    assert rates.device.startswith("CPU")
    assert table["measured_on"]["commit"] == git_sha()
    assert 0 < rates["draw_start_seconds"] < time.monotonic() - began
    assert estimate(config, rates)["total.seconds"] > rates["driver_seconds"]
    assert [path.name for path in (tmp_path / "run").rglob("*") if path.is_file()] == ["rates.json"]
