"""The synthesize job on a cluster of a head and two nodes with a pretended GPU each, of which one is lost in mid-shard.

usage: python tests/cluster/three_nodes_job.py RUN_DIR LEDGER ASKED
"""

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).parent


def main(directory: str, ledger: str, asked: str) -> None:
    os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="three-", dir="/tmp")  # the sockets' paths must be short
    os.environ |= {"RAY_health_check_period_ms": "500"}  # who is lost is asked so often; 3000 otherwise
    import ray
    from faults import AwayGenerator, LedgerStore
    from ray.cluster_utils import Cluster
    from small_stage import start, synthesize

    node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}
    Path(os.environ["RAY_TMPDIR"], "ray").mkdir()
    cluster = Cluster(initialize_head=True, head_node_args={**node, "num_gpus": 0})
    kept, lost = (cluster.add_node(**node, num_gpus=1) for _ in range(2))
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        threading.Thread(target=kill_raylet_when, args=(Path(asked), lost), daemon=True).start()
        run = start(directory, "synthesis.num_actors=2", "synthesis.gpus_per_actor=1")
        names = {ray.get_runtime_context().get_node_id(): "head", kept.node_id: "kept", lost.node_id: "lost"}
        placed = f"{asked}-on"
        generator = AwayGenerator(miss_every=5, home=kept.node_id, asked=asked, placed=placed)
        synthesize(replace(run, store=LedgerStore(run.store.url, ledger=ledger)), generator)
        drawn_on = {tuple(line.split()) for line in Path(placed).read_text().splitlines()}
        print("drawn on:", *sorted(f"{names[node]} with GPU {gpu}" for node, gpu in drawn_on), sep=" / ")
        print("nodes alive:", sum(node["Alive"] for node in ray.nodes()))
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(os.environ["RAY_TMPDIR"], ignore_errors=True)


def kill_raylet_when(asked: Path, node: object) -> None:
    while not asked.exists():
        time.sleep(0.05)
    os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
    main(*sys.argv[1:])
