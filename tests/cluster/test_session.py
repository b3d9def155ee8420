"""Messages where there is no Ray to be had."""

import socket
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest

from cluster import session
from cluster.session import connect
from hyperface.config import ClusterConfig
from hyperface.errors import RunError


@pytest.mark.usefixtures("no_ray")
def test_a_ray_that_cannot_be_reached_is_an_error_of_one_line():
    with pytest.raises(RunError, match=r"^Ray cannot be reached at nowhere .*; is that where its head is\?$"):
        connect(ClusterConfig(address="nowhere"))


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing() -> str:
    """Return an address where nothing listens any more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_no_ray_is_is_said_soon_and_by_the_name_of_its_key(
    refusing: str, silent: str, scheme: str, monkeypatch: pytest.MonkeyPatch
):
    """Ray itself asks for more than two minutes, and ends the process with SIGTERM."""
    monkeypatch.setattr(session, "ANSWER_SECONDS", 0.3)
    for address, why in ((refusing, "Connection refused"), (silent, "does not answer as Ray's head does")):
        said = (
            rf"^Ray cannot be reached at {scheme}{address} \(cluster.address\): .*{why}; is that where its head is\?$"
        )
        with pytest.raises(RunError, match=said):
            connect(ClusterConfig(address=scheme + address))


def test_the_variable_is_named_where_the_address_comes_from_it(refusing: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session, "ANSWER_SECONDS", 0.3)
    monkeypatch.setenv("RAY_ADDRESS", refusing)
    with pytest.raises(RunError, match=r" \(RAY_ADDRESS\): "):
        connect(ClusterConfig())


def test_a_head_that_restarts_is_asked_again(refusing: str, monkeypatch: pytest.MonkeyPatch):
    head = grpc.server(futures.ThreadPoolExecutor(1))

    def come_up(seconds: float) -> None:
        head.add_insecure_port(refusing)
        head.start()

    monkeypatch.setattr(session.time, "sleep", come_up)
    try:
        session._knock(f"ray://{refusing}")
    finally:
        head.stop(None).wait()
