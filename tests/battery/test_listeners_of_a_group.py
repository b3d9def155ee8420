"""Listeners of a group of workers on one machine that others can reach: one, where its ranks find each other."""

import json
import sys
from pathlib import Path

import psutil
import shared_ray  # noqa: F401  before Ray: it says what Ray reads when it is imported
from color_world import color_run
from ray.cloudpickle import register_pickle_by_value
from torch import distributed

from cluster.session import connect, session
from cluster.workers import fit
from hyperface.run import Run

register_pickle_by_value(sys.modules[__name__])  # the workers have no path to the tests


def test_a_group_of_workers_has_one_listener_that_others_can_reach(tmp_path: Path):
    run = color_run(tmp_path / "run", "packing.num_workers=2", "cluster.num_cpus=3")
    with session():
        connect(run.config.cluster)
        fit("packing", note_listeners, run, run.config.packing)
    found = [run.get_json(f"listeners-{rank}.json")["reached"] for rank in range(2)]
    assert sorted(map(len, found)) == [0, 1], f"torch's store of rank 0, and no other: {found}"


def note_listeners(run: Run) -> None:
    distributed.barrier()  # they have met
    listening = (one for one in psutil.Process().net_connections("inet") if one.status == psutil.CONN_LISTEN)
    reached = [one.laddr.ip for one in listening if not one.laddr.ip.endswith("127.0.0.1")]
    run.store.put(f"listeners-{distributed.get_rank()}.json", json.dumps({"reached": reached}).encode())
    distributed.barrier()
