"""Connection to the cluster a job belongs to, or a start of Ray in this process for a run without one."""

import atexit
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import grpc
import ray
import ray.data
from ray.exceptions import RayError, RayTaskError

from cluster.deaths import Watch, is_full
from hyperface.config import ClusterConfig, Config
from hyperface.errors import RunError
from hyperface.reading.one_line import one_line
from hyperface.run import Run, claims, enter, run_store
from hyperface.run.lease import only_driver
from hyperface.storage.scratch import scratch as folder

LONGEST_PLACE = 20
"""Most bytes of a temporary directory's path: Ray puts 87 behind it for its sockets, whose paths have 107 at most."""
ANSWER_SECONDS = 4.0
"""Seconds that the head of a cluster may take to answer."""
AGAIN_SECONDS = 1.0
"""Seconds after which a head that does not answer is asked again."""


@contextlib.contextmanager
def driving(config: Config) -> Iterator[Run]:
    """Open the run of a configuration, and a session, for its only driver. Raises what `open_run` and `only_driver`
    do."""
    store = run_store(config)
    with session(), only_driver(store), claims.driver(store) as driver:
        yield enter(store, config, driver)


@contextlib.contextmanager
def session() -> Iterator[None]:
    """End, after the block, the connection that a stage inside it made; a Ray that ran before goes on.

    Raises:
        RunError: Ray has died, or cannot go on.
    """
    if ray.is_initialized():
        yield
        return
    watch = Watch()
    try:
        try:
            yield
        finally:
            watch.rest()
            ray.shutdown()
    except BaseException as error:
        if watch.died:
            raise RunError(str(watch)) from error
        if isinstance(error, RayError) and not isinstance(error, RayTaskError):  # that one is an error of our own code
            raise RunError(
                f"Ray gave up ({type(error).__name__}: {one_line(error)}); the same command goes on"
            ) from error
        raise
    finally:
        watch.end()


def connect(config: ClusterConfig) -> None:
    """Connect when a stage first needs Ray: a finished run is seen to be finished without it.

    `cluster.address` or RAY_ADDRESS (set by `ray job submit`) names a running cluster; without either a Ray on loopback
    starts in this process and ends with it.

    Raises:
        RunError: Ray did not start, or cannot be reached.
    """
    if ray.is_initialized():
        return
    address = config.address or os.environ.get("RAY_ADDRESS")
    with _sigterm_kept():
        try:
            if address:
                _knock(address)
                with _said_to_wait(address):
                    ray.init(address=address, logging_level=logging.ERROR, logging_config=_records(config))
            else:
                _start_local(config)
        except Exception as error:  # Ray raises a bare Exception where a process of it does not come up
            ray.shutdown()
            why = one_line(error)
            if address:
                where = f"{address} (cluster.address)" if config.address else f"{address} (RAY_ADDRESS)"
                raise RunError(f"Ray cannot be reached at {where}: {why}; is that where its head is?") from error
            fix = "the machine may be busy; give the same command again"
            if is_full(_place()):
                fix = f"{_place()} is full: free space, or let TMPDIR name another directory with a short path"
            raise RunError(f"Ray did not start on this machine: {why}; {fix}") from error
    _quieten()


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Undo what `ray.init` does to SIGTERM: the process would end with a code of Ray's and without a word."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as end:
        if type(end) is SystemExit and callable(before):  # what Ray made of a SIGTERM; a job's own is of its own type
            before(signal.SIGTERM, None)
        raise
    finally:
        if callable(before):
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _said_to_wait(address: str) -> Iterator[None]:
    """Say, before long, that Ray waits: for minutes, where its head is there and this machine is none of its nodes."""
    line = f"Ray at {address} answers, and is waited for: is this machine a node of it, with a Ray that runs?"
    later = threading.Timer(2 * ANSWER_SECONDS, print, [line], {"flush": True})
    later.start()
    try:
        yield
    finally:
        later.cancel()


def _knock(address: str) -> None:
    """Raise OSError where no head of Ray is: Ray itself asks for minutes. `auto` is for Ray to find.

    A head that restarts just then is asked again: 6 seconds in all, so that a wrong address is said within 10.
    """
    if not address.rpartition(":")[2].isdecimal():
        return
    end = time.monotonic() + 1.5 * ANSWER_SECONDS
    while True:
        try:
            _ask(address, min(ANSWER_SECONDS, end - time.monotonic()))
            return
        except OSError:
            if time.monotonic() + AGAIN_SECONDS >= end:
                raise
            time.sleep(AGAIN_SECONDS)


def _ask(address: str, seconds: float) -> None:
    """Raise OSError where what listens there is no head of Ray, or nothing does; each step may take so long."""
    client, address = address.startswith("ray://"), address.removeprefix("ray://")
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(b"", timeout=seconds)
        except grpc.RpcError as error:
            silent = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            if silent or (error.code() == grpc.StatusCode.UNIMPLEMENTED and not client):
                raise ConnectionError("what listens there does not answer as Ray's head does") from None


def _records(config: ClusterConfig) -> ray.LoggingConfig | None:
    """Return the setting that makes workers say JSON, with the ids of job, node and actor; `hyperface/progress/logs.py`
    makes the driver."""
    return ray.LoggingConfig(encoding="JSON", log_level="INFO") if config.log_format == "json" else None


def _start_local(config: ClusterConfig) -> None:
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # where the workers of a packing or a training meet
    ray.init(
        num_cpus=config.num_cpus or None,
        include_dashboard=False,
        logging_level=logging.ERROR,
        logging_config=_records(config),
        _node_ip_address="127.0.0.1",
        _temp_dir=f"{scratch()}/ray",  # Ray opens its own directory to everybody
    )


def scratch() -> str:
    """Make a new directory for the files of this process's Ray, removed when the process ends.

    It lies in the temporary directory (TMPDIR), or in /tmp where Ray's sockets would have paths too long in that.
    """
    kept = contextlib.ExitStack()
    atexit.register(kept.close)
    atexit.register(ray.shutdown)  # called before the other: a Ray that lives makes its directory again, open to all
    return kept.enter_context(folder(_place()))


def _place() -> str:
    place = tempfile.gettempdir()
    return place if len(os.fsencode(place)) <= LONGEST_PLACE else "/tmp"  # noqa: S108  mkdtemp takes no name that is there


def _quieten() -> None:
    """Silence Ray Data's own progress bars and plans, which give way to the stages' progress lines."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.verbose_progress = False
    # A long shard is not a hang.
    context.execution_no_progress_timeout_s = 24 * 3600
    logging.getLogger("ray.data").setLevel(
        logging.CRITICAL
    )  # its errors are raised too, and those of ours with a trace
