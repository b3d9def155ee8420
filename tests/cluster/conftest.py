"""The Ray that tests share, and a dataset to compare theirs with."""

from collections.abc import Iterator

import pytest
import shared_ray


@pytest.fixture
def ray_cluster() -> str:
    """The address of a Ray of four CPUs on loopback, with one token, whose workers hold test credentials."""
    return shared_ray.address()


@pytest.fixture
def no_ray() -> Iterator[None]:
    """A process without Ray; what the test starts in it ends with the test."""
    import ray

    ray.shutdown()
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The hashes of the small dataset that one process makes without Ray."""
    from color_world import hashes, make_dataset
    from small_stage import start

    run = start(tmp_path_factory.mktemp("undisturbed") / "run")
    make_dataset(run)
    return hashes(run)
