"""Structured logs on a Ray of their own: what its actors say of a shard that killed one of them."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from faults import KillingGenerator
from small_stage import seed_of, start, synthesize

from cluster.session import connect
from hyperface.config import ClusterConfig


@pytest.fixture
def logs(no_ray: None) -> Iterator[Path]:
    """Return the folder where the workers of a Ray with structured logs leave what they say."""
    root, ours = logging.getLogger(), logging.getLogger("ray")
    before = root.handlers[:], root.level, ours.handlers[:], ours.propagate
    connect(ClusterConfig(num_cpus=2, log_format="json"))
    (node,) = ray.nodes()
    yield Path(node["ObjectStoreSocketName"]).parents[1] / "logs"
    root.handlers, root.level, ours.handlers, ours.propagate = before


def records(logs: Path) -> list[dict[str, Any]]:
    """Return what the actors said, in order; every line of them is one record."""
    lines = [line for file in logs.glob("worker-*.err") for line in file.read_text().splitlines()]
    found = [json.loads(line) for line in lines if '"shard"' in line]
    return sorted(found, key=lambda record: record["timestamp_ns"])


def test_each_attempt_at_a_shard_is_a_record_with_run_stage_shard_attempt_and_actor(logs: Path, tmp_path: Path):
    run = start(tmp_path / "run", "cluster.log_format=json")
    synthesize(run, KillingGenerator(seed=seed_of(2), flag=str(tmp_path / "killed")))
    found = records(logs)
    assert {(record["run"], record["stage"]) for record in found} == {(str(run), "synthesize")}
    assert [(record["message"], record["attempt"]) for record in found if record["shard"] == 2] == [
        ("begun", 1),
        ("begun", 2),
        ("done", 2),
    ]
    assert {record["shard"] for record in found if record["message"] == "done"} == {0, 1, 2, 3}
    done = next(record for record in found if record["message"] == "done")
    assert done["rows"] + done["rejects"] == 8
    assert all(record["actor_id"] and record["node_id"] and record["levelname"] == "INFO" for record in found)
