"""Reading of the metrics port of a Ray of one node, as Prometheus does it."""

import time
import urllib.request

from cluster.metrics import label
from hyperface.run import Run

DEADLINE = 600.0


def found_by_prometheus(run: Run, stage: str, wanted: dict[str, float]) -> dict[str, float]:
    """Return what the node's port says of a stage of the run, as soon as that is what is wanted."""
    import ray

    (node,) = ray.nodes()
    found: dict[str, float] = {}
    deadline = time.monotonic() + DEADLINE
    while not wanted.items() <= found.items() and time.monotonic() < deadline:
        found = scraped(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", run.store.url, stage)
        time.sleep(0.2)
    assert found.items() >= wanted.items()
    return found


def scraped(url: str, run: str, stage: str) -> dict[str, float]:
    """{name: value} of the run's metrics."""
    prefix, lines = f"ray_hyperface_{stage}_", urllib.request.urlopen(url, timeout=10).read().decode().splitlines()
    shown = label(run).replace("\\", r"\\").replace('"', r"\"")  # as Prometheus writes them
    own = [text for text in lines if text.startswith(prefix) and f'run="{shown}"' in text]
    return {text.partition("{")[0].removeprefix(prefix): float(text.rpartition(" ")[2]) for text in own}
