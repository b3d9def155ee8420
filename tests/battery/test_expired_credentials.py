"""Credentials that expire while a whole job runs against a real S3 server: it ends soon in one line, and goes on."""

import hashlib
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from fault_proxy import FaultProxy, fault_proxy
from object_store import ObjectStore

from hyperface.config import StorageConfig
from hyperface.storage import Store, open_store
from tests.e2e.processes import ROOT, command, pipeline

SOON_S = 90
"""Seconds from the refusal to the end of the job, on a busy machine; a server that is away would be waited for
longer."""


@dataclass
class Place:
    """A run on the gateway, behind a proxy that notes what is asked for."""

    gateway: ObjectStore
    proxy: FaultProxy
    url: str

    @property
    def words(self) -> tuple[str, ...]:
        return pipeline(self.url, f"storage.endpoint_url={self.proxy.url}", "storage.addressing_style=path")

    def job(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command(*self.words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def store(self) -> Store:
        return open_store(self.url, StorageConfig(endpoint_url=self.proxy.url, addressing_style="path"))

    def suspend_after(self, written: str) -> threading.Thread:
        def watch() -> None:
            while not any(m == "PUT" and s == 200 and written in path for m, path, s in list(self.proxy.journal)):
                time.sleep(0.01)
            self.gateway.suspend()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        return thread


@pytest.fixture
def place(object_gateway: ObjectStore, object_bucket: str) -> Iterator[Place]:
    with fault_proxy(object_gateway.endpoint) as proxy:
        yield Place(object_gateway, proxy, f"s3://{object_bucket}/run")
    object_gateway.enable()


def results(store: Store) -> dict[str, str]:
    """Digests of what a run is for."""
    names = [name for name in store.list() if name.endswith((".tar", "references.parquet", "index.json"))]
    return {name: hashlib.sha256(store.read(name)).hexdigest() for name in names}


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    subprocess.run(command(*pipeline(directory)), cwd=ROOT, capture_output=True, timeout=300, check=True)
    return results(open_store(str(directory)))


MOMENTS = ("config.yaml", "gallery/embeddings", "packing/references", "_done/shard-000001", "dataset/index.json")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("written", MOMENTS)
def test_a_job_whose_credentials_expire_ends_in_one_line_and_goes_on(
    place: Place, undisturbed: dict[str, str], written: str
):
    watch = place.suspend_after(written)
    with place.job() as job:
        watch.join(timeout=240)
        assert not watch.is_alive(), f"{written} was not written"
        began = time.monotonic()
        out, said = job.communicate(timeout=300)
    took = time.monotonic() - began
    assert job.returncode == 1, out + said
    assert took < SOON_S, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: s3://"), said
    assert "refuses the credentials, which may have expired or been taken back (UserSuspended)" in last
    assert "the same command goes on" in last
    assert "Traceback" not in said
    place.gateway.enable()
    with place.job() as again:
        out, said = again.communicate(timeout=300)
    assert again.returncode == 0, out + said
    assert results(place.store()) == undisturbed
