"""A Ray for the tests of a file: four CPUs on loopback, with one token. What a test leaves behind ends with it."""

import os
from collections.abc import Iterator

import pytest

import cluster  # noqa: F401  it says what Ray reads when it is imported, which most test files do first

os.environ |= {"RAY_metrics_report_interval_ms": "500"}  # ten seconds otherwise


@pytest.fixture(scope="module")
def ray_cluster(s3_endpoint: str) -> Iterator[str]:
    """The address of a local Ray whose workers hold the S3 emulator's credentials."""
    import ray

    from cluster.session import connect
    from hyperface.config import ClusterConfig

    connect(ClusterConfig(num_cpus=4))
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The hashes of the small dataset that one process makes without Ray."""
    from color_world import hashes, make_dataset
    from small_stage import start

    run = start(tmp_path_factory.mktemp("undisturbed") / "run")
    make_dataset(run)
    return hashes(run)
