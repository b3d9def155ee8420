"""Fixtures that every test may use: one thread per process, an S3 emulator for unit tests, a real S3 server for
others."""

import os
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence

import pytest
from object_store import CREDENTIALS, ObjectStore, start_object_store

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Libraries are installed without bytecode and compiled where they are first imported. Where images forbid to keep it,
# this and every process that it starts would compile torch and Ray anew: half a minute to collect the tests, not ten
# seconds.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # of a script that runs it with `&`; children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Send the files with an object store to one process, where files go to several (`--dist loadgroup`): it has one
    store."""
    stored = {item.path for item in items if "object_gateway" in getattr(item, "fixturenames", ())}
    for item in items:
        item.add_marker(pytest.mark.xdist_group("object-store" if item.path in stored else item.path.name))


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A moto server on loopback, with test credentials in the environment."""
    from moto.server import ThreadedMotoServer
    from werkzeug.serving import WSGIRequestHandler

    os.environ |= CREDENTIALS
    # A head and a body are two writes: of a connection that is kept, the second would wait for the first one's receipt,
    # which Linux gives after 40 ms.
    WSGIRequestHandler.disable_nagle_algorithm = True
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_bucket(s3_endpoint: str) -> str:
    """A fresh bucket on the emulator."""
    return _fresh_bucket(s3_endpoint)


@pytest.fixture(scope="session")
def object_gateway() -> Iterator[ObjectStore]:
    """A RADOS gateway on loopback, whose test may stop it and must start it again; its credentials are in the
    environment."""
    os.environ |= CREDENTIALS
    server = start_object_store()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def object_store(object_gateway: ObjectStore) -> str:
    """The endpoint of a real S3 server."""
    return object_gateway.endpoint


@pytest.fixture
def object_bucket(object_store: str) -> str:
    """A fresh bucket on the real S3 server."""
    return _fresh_bucket(object_store)


def _fresh_bucket(endpoint: str) -> str:
    import s3fs

    name = f"bucket-{uuid.uuid4().hex[:12]}"
    s3fs.S3FileSystem(client_kwargs={"endpoint_url": endpoint}).mkdir(name)
    return name
