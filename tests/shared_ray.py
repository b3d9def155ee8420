"""One Ray for all tests of a process that do not end it; each process of pytest-xdist has one of its own.

Its workers hold the credentials of both S3 servers. A test with a Ray of its own in this process takes the fixture
`no_ray`; the next that wants the shared one starts it anew.
"""

import os

from object_store import CREDENTIALS

import cluster  # noqa: F401  it says what Ray reads when it is imported

os.environ |= {
    "RAY_metrics_report_interval_ms": "500",  # ten seconds otherwise
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # how often a group is looked at; two seconds otherwise
    "RAY_prestart_worker_first_driver": "0",  # a worker for each CPU, before anybody wants one
}


def address() -> str:
    """Return the address of the shared Ray, which is started if it is not there."""
    import ray

    from cluster.session import connect
    from hyperface.config import ClusterConfig

    os.environ |= CREDENTIALS
    if not ray.is_initialized():
        connect(ClusterConfig(num_cpus=4))
    return str(ray.get_runtime_context().gcs_address)
